"""gymnax 1.0: `make("numpad") -> (env, params)`, as `gymnax.make` returns them.

The task is `params`: `env.default_params` is the first training task, and any task of
`env.task_set(...)` or `env.sample_task(key)` may stand in its place, batched under `vmap`.
At the end of an episode (terminated, or truncated by its time) `step` starts a new episode
of the same task. With `new_tasks=True` tasks are drawn instead: one at `reset`, and another
whenever the meta-episode is over (after `spec.episodes_per_task` episodes); `params` is then
ignored.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnax.environments.environment as gymnax_environment
import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from taskbelief import registry
from taskbelief.types import Array, Continuous, Env, Key, Task


@struct.dataclass
class State(gymnax_environment.EnvState):
    time: Any  # [] int32: steps since the episode began
    episode: Any  # [] int32: episodes on this task that are over
    task: Any  # the task that is being played
    inner: Any  # the state of the environment itself


class TaskEnvironment(gymnax_environment.Environment):
    """An environment of this library as gymnax has them."""

    def __init__(self, name: str, env: Env, new_tasks: bool) -> None:
        self._name = name
        self.env = env
        self.new_tasks = new_tasks
        self.task_set = env.task_set
        self.sample_task = env.sample_task

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> Task:
        return jax.tree.map(lambda leaf: leaf[0], self.env.task_set("train", 1))

    @functools.partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: State, action: int | float | Array, params: Task | None = None
    ) -> tuple[Array, State, Array, Array, Array, dict[str, Any]]:
        """One step; where it ends the episode, observation and state are of the next one."""
        if params is None:
            params = self.default_params
        key_step, key_reset, key_task = jax.random.split(key, 3)
        last_obs, after, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = self.is_truncated(after, params)
        done = terminated | truncated

        episode = after.episode + 1
        if self.new_tasks:
            task_over = episode >= self.env.spec.episodes_per_task
            task = _where(task_over, self.env.sample_task(key_task), state.task)
            episode = jnp.where(task_over, 0, episode)
        else:
            task = params
        obs, inner = self.env.reset(key_reset, task)
        fresh = State(time=jnp.zeros((), jnp.int32), episode=episode, task=task, inner=inner)
        obs, state = _where(done, (obs, fresh), (last_obs, after))
        info |= {"terminated": terminated, "truncated": truncated, "final_observation": last_obs}
        return obs, state, reward, terminated, truncated, info

    def step_env(
        self, key: Key, state: State, action: int | float | Array, params: Task
    ) -> tuple[Array, State, Array, Array, dict[str, Any]]:
        task = state.task if self.new_tasks else params
        obs, inner, reward, terminated = self.env.step(key, state.inner, jnp.asarray(action), task)
        state = state.replace(time=state.time + 1, inner=inner, task=task)  # pyright: ignore
        return obs, state, reward, terminated, {}

    def reset_env(self, key: Key, params: Task) -> tuple[Array, State]:
        key_task, key_reset = jax.random.split(key)
        task = self.env.sample_task(key_task) if self.new_tasks else params
        obs, inner = self.env.reset(key_reset, task)
        zero = jnp.zeros((), jnp.int32)
        return obs, State(time=zero, episode=zero, task=task, inner=inner)

    def is_truncated(self, state: State, params: Task) -> Array:
        """Out of time."""
        del params
        return state.time >= self.env.spec.episode_steps

    @property
    def num_actions(self) -> int:
        return self.env.spec.action.num

    def action_space(self, params: Task | None = None) -> spaces.Box | spaces.Discrete:
        del params
        num = self.env.spec.action.num
        if isinstance(self.env.spec.action, Continuous):
            return spaces.Box(-1.0, 1.0, (num,), jnp.float32)
        return spaces.Discrete(num)

    def observation_space(self, params: Task | None = None) -> spaces.Box:
        del params
        return spaces.Box(-jnp.inf, jnp.inf, (self.env.spec.obs_dim,), jnp.float32)


def _where(condition: Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def make(
    env: str | Env, *, new_tasks: bool = False, **settings: Any
) -> tuple[TaskEnvironment, Task]:
    """An environment, by name or as it is, and its default params, the first training task."""
    env = registry.make(env, **settings)
    made = TaskEnvironment(registry.name_of(env), env, new_tasks)
    return made, made.default_params
