"""Brax: `make("semicircle") -> brax.envs.Env`, for anything that trains on Brax environments.

`reset` draws a task. One Brax episode is a whole meta-episode: where a task lasts for several
episodes, the state is reset inside. Brax's own auto-reset goes back to the first state, so
a slot of a batch keeps its task; draw new ones by resetting with new keys. `episode_length`
is to be handed to `brax.envs.training.wrap` or to a `train` function; their wrappers need
keys of the old style, `jax.random.PRNGKey`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax import envs

from taskbelief import registry
from taskbelief.types import Array, Continuous, Env, Key, State, Task


class Played(NamedTuple):
    """What Brax calls the pipeline state."""

    state: State
    task: Task
    time: Array  # [] int32: steps since the task began


class TaskEnv(envs.Env):
    """An environment of this library as Brax has them."""

    def __init__(self, name: str, env: Env) -> None:
        self.name = name
        self.env = env
        self.episode_length = env.spec.task_steps

    def reset(self, rng: Key) -> envs.State:
        key, task_key, reset_key = jax.random.split(rng, 3)
        task = self.env.sample_task(task_key)
        obs, state = self.env.reset(reset_key, task)
        return envs.State(
            pipeline_state=Played(state, task, jnp.zeros((), jnp.int32)),  # pyright: ignore
            obs=obs,
            reward=jnp.zeros(()),
            done=jnp.zeros(()),
            # not in the pipeline state: chance must not repeat itself after an auto-reset
            info={"key": key},
        )

    def step(self, state: envs.State, action: Array) -> envs.State:
        played: Any = state.pipeline_state
        key, step_key, reset_key = jax.random.split(state.info["key"], 3)
        obs, inner, reward, terminated = self.env.step(step_key, played.state, action, played.task)
        time = played.time + 1
        spec = self.env.spec
        if spec.episodes_per_task > 1:
            again = (time % spec.episode_steps == 0) & (time < spec.task_steps)
            fresh = self.env.reset(reset_key, played.task)
            obs, inner = jax.tree.map(
                lambda new, old: jnp.where(again, new, old), fresh, (obs, inner)
            )
        return state.replace(  # pyright: ignore
            pipeline_state=Played(inner, played.task, time),
            obs=obs,
            reward=reward,
            done=terminated.astype(jnp.float32),
            info=state.info | {"key": key},
        )

    @property
    def observation_size(self) -> int:
        return self.env.spec.obs_dim

    @property
    def action_size(self) -> int:
        return self.env.spec.action.num

    @property
    def backend(self) -> str:
        """Brax's name of the physics, where there is one."""
        return getattr(self.env, "backend", "taskbelief")


def make(env: str | Env, **settings: Any) -> TaskEnv:
    """An environment, by name or as it is, for Brax.

    Raises:
      ValueError: its actions are discrete; Brax knows continuous ones only.
    """
    env = registry.make(env, **settings)
    name = registry.name_of(env)
    if not isinstance(env.spec.action, Continuous):
        raise ValueError(f"{name} has discrete actions: Brax knows continuous ones only")
    return TaskEnv(name, env)
