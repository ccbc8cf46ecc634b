"""gymnax 1.0: `make("numpad") -> (env, params)`, as `gymnax.make` returns them.

An episode is a whole meta-episode: `reset` draws a task, and `step` draws another and starts
again once the task's time is up, which it calls truncated. Episodes within a task are reset
inside; `info["episode_end"]` names their ends, `info["task_start"]` the step that began a new
task. The observation holds what the environment shows and, with `history=True`, the previous
action, the previous reward and a flag where the state was reset:

    obs[:obs_dim]                what the environment shows
    obs[obs_dim : obs_dim + num] the action before (one-hot if discrete), zeros at a task's start
    obs[-2]                      the reward before
    obs[-1]                      1 where the state has just been reset

`make(..., tasks=)` says where tasks come from: "train" (default), "holdout", or "all" for p(w).
One task for ever: `params.replace(task=task)`, or `make(..., task=task)`; batched under `vmap`
it is one task for each environment. `params.max_steps_in_episode` cuts meta-episodes shorter.

`make(..., five_values=True)` is for what was written for gymnax before 1.0, as rejax, memorax
and stoa: `step` returns (obs, state, reward, done, info).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import gymnax.environments.environment as gymnax_environment
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces

from taskbelief import registry
from taskbelief.adapters._meta_episode import Play, View, where
from taskbelief.types import Array, Continuous, Env, Key, Task


@struct.dataclass
class EnvParams(gymnax_environment.EnvParams):
    max_steps_in_episode: Any = 1  # of a meta-episode
    task: Any = None  # the task that is played for ever; None: a new one at each reset


@struct.dataclass
class EnvState(gymnax_environment.EnvState):
    time: Any  # [] int32: steps since the task began
    task: Any  # the task that is being played
    play: Play  # the state of the environment itself, and its clocks
    obs: Any  # [size] float32: what was seen last


@dataclass(frozen=True)
class TaskEnvironment(gymnax_environment.Environment):
    """An environment of this library as gymnax has them: a value, equal to one of the same
    settings, so that programs compiled for one serve the other."""

    env: Env
    tasks: str = "train"
    history: bool = True
    five_values: bool = False

    def __post_init__(self) -> None:
        View(self.env, self.tasks, self.history)

    @property
    def view(self) -> View:
        return View(self.env, self.tasks, self.history)

    @property
    def name(self) -> str:
        return registry.name_of(self.env)

    @property
    def default_params(self) -> EnvParams:
        """Hashable: a new task at each reset."""
        return EnvParams(max_steps_in_episode=self.env.spec.task_steps)

    def task_set(self, split: str, num: int | None = None) -> Task:
        """The tasks of "train" or "holdout", batched, for `params.replace(task=...)`."""
        return self.env.task_set(split, num)

    def sample_task(self, key: Key) -> Task:
        """w ~ p(w)."""
        return self.env.sample_task(key)

    @functools.partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: EnvState, action: Any, params: EnvParams | None = None
    ) -> tuple[Any, ...]:
        """Takes one step; the last of a meta-episode returns the first state of the next one.

        Returns:
          (obs, state, reward, terminated, truncated, info), or with `five_values`
          (obs, state, reward, done, info).
        """
        if params is None:
            params = self.default_params
        key_step, key_reset = jax.random.split(key)
        last_obs, after, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = self.is_truncated(after, params)
        done = terminated | truncated
        obs, state = where(done, self.reset_env(key_reset, params), (last_obs, after))
        info |= {
            "task_start": done,
            "terminated": terminated,
            "truncated": truncated,
            "final_observation": last_obs,
        }
        if self.five_values:
            return obs, state, reward, done, info
        return obs, state, reward, terminated, truncated, info

    @functools.partial(jax.jit, static_argnames=("self",))
    def reset(self, key: Key, params: EnvParams | None = None) -> tuple[Array, EnvState]:
        return self.reset_env(key, self.default_params if params is None else params)

    def step_env(
        self, key: Key, state: EnvState, action: Any, params: EnvParams
    ) -> tuple[Array, EnvState, Array, Array, dict[str, Any]]:
        """Takes a step without a reset; returns (obs, state, reward, terminated, info). It is never
        terminated, because the end of an episode does not end the task."""
        play, seen = self.view.step(
            key, state.play, action, state.task, params.max_steps_in_episode
        )
        state = EnvState(time=play.time, task=state.task, play=play, obs=seen.obs)
        info = {
            "episode_end": seen.episode_end,
            "task_start": jnp.zeros((), bool),
            "reached": seen.reached,
        }
        return seen.obs, state, seen.reward, jnp.zeros((), bool), info

    def reset_env(self, key: Key, params: EnvParams) -> tuple[Array, EnvState]:
        key_task, key_reset = jax.random.split(key)
        task = self.view.draw(key_task) if params.task is None else params.task
        obs, play = self.view.start(key_reset, task)
        return obs, EnvState(time=play.time, task=task, play=play, obs=obs)

    def get_obs(self, state: EnvState, params: Any = None, key: Key | None = None) -> Array:
        """What was seen last, [size]."""
        del params, key
        return state.obs

    def is_truncated(self, state: EnvState, params: EnvParams) -> Array:
        """The meta-episode's time is up."""
        limit = jnp.minimum(params.max_steps_in_episode, self.env.spec.task_steps)
        return state.time >= limit

    def is_terminated(self, state: EnvState, params: EnvParams) -> Array:
        """Never."""
        del state, params
        return jnp.zeros((), bool)

    def is_terminal(self, state: EnvState, params: EnvParams) -> Array:
        """Never; with `five_values` as gymnax had it then: the time is up."""
        if self.five_values:
            return self.is_truncated(state, params)
        return self.is_terminated(state, params)

    def discount(self, state: EnvState, params: EnvParams) -> Array:
        """0 where the state is terminal, 1 elsewhere."""
        return jnp.where(self.is_terminal(state, params), 0.0, 1.0)

    @property
    def num_actions(self) -> int:
        return self.env.spec.action.num

    def action_space(self, params: EnvParams | None = None) -> spaces.Box | spaces.Discrete:
        del params
        num = self.env.spec.action.num
        if isinstance(self.env.spec.action, Continuous):
            return spaces.Box(-1.0, 1.0, (num,), jnp.float32)
        return spaces.Discrete(num)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        """Bounds [size], or one for all entries where none is finite."""
        del params
        low, high = self.view.bounds()
        if not (np.isfinite(low).any() or np.isfinite(high).any()):
            return spaces.Box(-jnp.inf, jnp.inf, low.shape, jnp.float32)
        return spaces.Box(low, high, low.shape, jnp.float32)  # pyright: ignore

    def state_space(self, params: EnvParams | None = None) -> spaces.Dict:
        """Unbounded boxes in the shapes of the state's leaves, by their paths."""
        params = self.default_params if params is None else params
        _, state = jax.eval_shape(self.reset_env, jax.random.key(0), params)
        leaves = jax.tree_util.tree_leaves_with_path(state)
        return spaces.Dict(
            {
                jax.tree_util.keystr(path): spaces.Box(-jnp.inf, jnp.inf, leaf.shape, leaf.dtype)
                for path, leaf in leaves
            }
        )


def make(
    env: str | Env,
    *,
    tasks: str = "train",
    history: bool = True,
    task: Task | None = None,
    five_values: bool = False,
    **settings: Any,
) -> tuple[TaskEnvironment, EnvParams]:
    """Returns (environment, its default params) for gymnax.

    Args:
      env: a name, with `settings`, or an environment.
      tasks: where tasks are drawn from at each reset: "train", "holdout" or "all" (p(w)).
      history: observations hold the previous action and reward and the episode's start.
      task: this task is played for ever instead; it stands in the params.
      five_values: `step` returns (obs, state, reward, done, info), as before gymnax 1.0.

    Raises:
      ValueError: an unknown name, setting or value of `tasks`.
    """
    made = TaskEnvironment(registry.make(env, **settings), tasks, history, five_values)
    return made, made.default_params.replace(task=task)  # pyright: ignore
