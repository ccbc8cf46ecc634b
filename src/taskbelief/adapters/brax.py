"""Brax: `make("semicircle") -> brax.envs.Env`, for anything that trains on Brax environments.

An episode is a whole meta-episode: `reset` draws a task, and so does Brax's own auto-reset.
Episodes within a task are reset inside; `info["episode_end"]` names their ends, and
`info["task_start"]` the state that a task starts with. Nothing is ever `done` of its own: hand
`episode_length` to `brax.envs.training.wrap` or to a `train` function, whose wrappers end the
meta-episode and call that a truncation. They need keys of the old style, `jax.random.PRNGKey`.

The observation holds what the environment shows and, with `history=True`, the previous action,
the previous reward and a flag where the state was reset:

    obs[:obs_dim]                what the environment shows
    obs[obs_dim : obs_dim + num] the action before, zeros at a task's start
    obs[-2]                      the reward before
    obs[-1]                      1 where the state has just been reset

`tasks=` says where tasks come from: "train" (default), "holdout", or "all" for p(w). One task
for ever: `make(..., task=task)`.

Where the environment has a body (cheetah_velocity), `sys`, `dt` and `render` are the body's, and
pipeline states show its positions, so that `brax.io.html` and domain randomisation work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax import envs

from taskbelief import registry
from taskbelief.adapters._meta_episode import Play, View
from taskbelief.types import Array, Continuous, Env, Key, Task


class Played(NamedTuple):
    """What Brax calls the pipeline state; it shows what the body's own does (`x`, `q`, ...)."""

    task: Task
    play: Play

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(self.play.state, "body"):
            raise AttributeError(name)
        return getattr(self.play.state.body.pipeline_state, name)


class TaskEnv(envs.Env):
    """An environment of this library as Brax has them."""

    def __init__(
        self, env: Env, *, tasks: str = "train", history: bool = True, task: Task | None = None
    ) -> None:
        self.env = env
        self.view = View(env, tasks, history)
        self.task = task  # the one that is played for ever; None: drawn at each reset
        self.episode_length = env.spec.task_steps
        self._sys: Any = None  # in place of the body's own

    @property
    def name(self) -> str:
        """The name that `taskbelief.make` knows it by."""
        return registry.name_of(self.env)

    def reset(self, rng: Key) -> envs.State:
        key, start_key = jax.random.split(rng)
        with self._system():
            played, obs = self._start(start_key)
        info: dict[str, Any] = {
            # not in the pipeline state: chance must not repeat itself after an auto-reset
            "key": key,
            "episode_end": jnp.zeros((), bool),
            "task_start": jnp.ones((), bool),
        }
        if self.view.resets:
            info["reached"] = obs[: self.env.spec.obs_dim]
        zero = jnp.zeros(())
        return envs.State(played, obs, zero, zero, {}, info)  # pyright: ignore

    def step(self, state: envs.State, action: Array) -> envs.State:
        played: Any = state.pipeline_state
        key, step_key, start_key = jax.random.split(state.info["key"], 3)
        with self._system():
            play, seen = self.view.step(step_key, played.play, action, played.task)
            info = state.info | {
                "key": key,
                "episode_end": seen.episode_end,
                "task_start": jnp.zeros((), bool),
            }
            if self.view.resets:
                info["reached"] = seen.reached
            if "first_obs" in info:
                # Brax's auto-reset goes back to the first state of all, and with it to the first
                # task: it is handed another first state at each step
                first, first_obs = self._start(start_key)
                info |= {"first_pipeline_state": first, "first_obs": first_obs}
                info["task_start"] = seen.over
        return state.replace(  # pyright: ignore
            pipeline_state=Played(played.task, play),
            obs=seen.obs,
            reward=seen.reward,
            done=jnp.zeros(()),
            info=info,
        )

    def _start(self, key: Key) -> tuple[Played, Array]:
        task_key, start_key = jax.random.split(key)
        task = self.view.draw(task_key) if self.task is None else self.task
        obs, play = self.view.start(start_key, task)
        return Played(task, play), obs

    @property
    def observation_size(self) -> int:
        return self.view.size

    @property
    def action_size(self) -> int:
        return self.env.spec.action.num

    @property
    def backend(self) -> str:
        """Brax's name of the physics, where there is one."""
        return getattr(self.env, "backend", "taskbelief")

    # ---- the body, where there is one

    @property
    def body(self) -> Any:
        """The Brax environment inside.

        Raises:
          AttributeError: there is none.
        """
        return self.env.body  # type: ignore[attr-defined]

    @property
    def sys(self) -> Any:
        """Brax's system. Another may be set: it is what is stepped, until the next is set."""
        return self.body.sys if self._sys is None else self._sys

    @sys.setter
    def sys(self, sys: Any) -> None:
        self._sys = sys

    @property
    def dt(self) -> Any:
        """Seconds of a step."""
        return self.body.dt

    def render(
        self,
        trajectory: list[Played],
        height: int = 240,
        width: int = 320,
        camera: str | None = None,
    ) -> Sequence[Any]:
        """Frames of a list of pipeline states, by MuJoCo."""
        states = [played.play.state.body.pipeline_state for played in trajectory]
        return self.body.render(states, height, width, camera)

    @contextlib.contextmanager
    def _system(self) -> Iterator[None]:
        """The body with the system that was set: environments of one backend share a body."""
        if self._sys is None:
            yield
            return
        own = self.body.sys
        self.body.sys = self._sys
        try:
            yield
        finally:
            self.body.sys = own


def make(
    env: str | Env,
    *,
    tasks: str = "train",
    history: bool = True,
    task: Task | None = None,
    **settings: Any,
) -> TaskEnv:
    """Returns an environment for Brax.

    Args:
      env: a name, with `settings`, or an environment.
      tasks: where tasks are drawn from at each reset: "train", "holdout" or "all" (p(w)).
      history: observations hold the previous action and reward and the episode's start.
      task: this task is played for ever instead.

    Raises:
      ValueError: its actions are discrete, and Brax knows continuous ones only; or an unknown
        name, setting or value of `tasks`.
    """
    env = registry.make(env, **settings)
    if not isinstance(env.spec.action, Continuous):
        raise ValueError(
            f"{registry.name_of(env)} has discrete actions: Brax knows continuous ones only"
        )
    return TaskEnv(env, tasks=tasks, history=history, task=task)
