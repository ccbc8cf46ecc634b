"""Gymnasium: `make("numpad") -> gymnasium.Env`, `make_vec("numpad", 64) -> VectorEnv`.

`reset(seed=...)` draws a task, and later resets without a seed start new episodes of the
same one; with `new_tasks=True` another is drawn once the task's episodes have been played
(`spec.episodes_per_task` of them). `reset(options={"task": task})` plays a task of your
choice, batched for a vector environment. Episodes are truncated after `spec.episode_steps`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from taskbelief import registry
from taskbelief.types import Array, Continuous, Env, EnvSpec, Key, State, Task


class TaskEnv(gymnasium.Env):
    """An environment of this library as Gymnasium has them."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self, name: str, env: Env, *, new_tasks: bool = False, render_mode: str | None = None
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode={render_mode!r}: must be None or "rgb_array"')
        self.name = name
        self.env = env
        self.new_tasks = new_tasks
        self.render_mode = render_mode
        self.observation_space, self.action_space = _spaces(env.spec)
        self.task: Any = None  # the task that is being played, once there was a reset
        self._key: Key | None = None
        self._sample_task = jax.jit(env.sample_task)
        self._reset = jax.jit(env.reset)
        self._step = jax.jit(env.step)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or self._key is None:
            self._key = jax.random.key(int(self.np_random.integers(2**31)))
            self.task = None
        if options and "task" in options:
            self.task, self._episode = options["task"], 0
        elif self.task is None or (
            self.new_tasks and self._episode >= self.env.spec.episodes_per_task
        ):
            self.task, self._episode = self._sample_task(self._next_key()), 0
        obs, self._state = self._reset(self._next_key(), self.task)
        self._episode += 1
        self._time = 0
        self._rewards: list[float] = []
        self._states = [self._state]
        return np.asarray(obs), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, self._state, reward, terminated = self._step(
            self._next_key(), self._state, jnp.asarray(action), self.task
        )
        self._time += 1
        truncated = self._time >= self.env.spec.episode_steps
        if self.render_mode:
            self._states.append(self._state)
            self._rewards.append(float(reward))
        return np.asarray(obs), float(reward), bool(terminated), truncated, {}

    def render(self) -> np.ndarray | None:
        """The state, and the way to it since the episode began, as [height, width, 3] uint8."""
        if self.render_mode is None:
            return None
        from taskbelief import render

        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._states)
        return render.picture(self.env, self.task, states, np.asarray(self._rewards))

    def _next_key(self) -> Key:
        assert self._key is not None, "reset comes before step"
        self._key, key = jax.random.split(self._key)
        return key


class TaskVectorEnv(gymnasium.vector.VectorEnv):
    """A batch of tasks side by side, in one compiled step; resets in the step that ends."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, name: str, env: Env, num_envs: int, *, new_tasks: bool = False) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}: must be at least 1")
        self.name = name
        self.env = env
        self.num_envs = num_envs
        self.new_tasks = new_tasks
        self.single_observation_space, self.single_action_space = _spaces(env.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._key: Key | None = None
        self._tasks: Task | None = None
        self._episode: Array = jnp.zeros(num_envs, jnp.int32)  # episodes that are over
        self._sample = jax.jit(lambda key: jax.vmap(env.sample_task)(self._split(key)))
        self._start = jax.jit(lambda key, tasks: jax.vmap(env.reset)(self._split(key), tasks))
        self._advance = jax.jit(self._step)

    @property
    def tasks(self) -> Any:
        """The tasks that are being played, batched."""
        return self._tasks

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or self._key is None:
            self._key = jax.random.key(int(self.np_random.integers(2**31)))
            self._tasks = None
        self._key, task_key, reset_key = jax.random.split(self._key, 3)
        none = jnp.zeros(self.num_envs, jnp.int32)
        if options and "task" in options:
            self._tasks, self._episode = options["task"], none
        elif self._tasks is None:
            self._tasks, self._episode = self._sample(task_key), none
        elif self.new_tasks:
            self._episode = self._episode + 1  # an episode that is broken off counts as played
            over = self._episode >= self.env.spec.episodes_per_task
            self._tasks = _where(over, self._sample(task_key), self._tasks)
            self._episode = jnp.where(over, 0, self._episode)
        obs, self._state = self._start(reset_key, self._tasks)
        self._time = none  # steps since the episode began
        return np.asarray(obs), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        assert self._key is not None, "reset comes before step"
        self._key, key = jax.random.split(self._key)
        carry = self._state, self._tasks, self._time, self._episode
        carry, seen = self._advance(key, carry, jnp.asarray(actions))
        self._state, self._tasks, self._time, self._episode = carry
        obs, last_obs, reward, terminated, truncated = (np.asarray(x) for x in seen)
        info: dict[str, Any] = {}
        done = terminated | truncated
        if done.any():
            final: np.ndarray = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(done):
                final[i] = last_obs[i]
            info = {"final_obs": final, "_final_obs": done}
        return obs, reward, terminated, truncated, info

    def _step(self, key: Key, carry: Any, actions: Array) -> tuple[Any, Any]:
        spec = self.env.spec
        state, tasks, time, episode = carry
        step_key, reset_key, task_key = jax.random.split(key, 3)
        last_obs, state, reward, terminated = jax.vmap(self.env.step)(
            self._split(step_key), state, actions, tasks
        )
        time = time + 1
        truncated = time >= spec.episode_steps
        done = terminated | truncated

        def start_again(now: Any) -> Any:
            obs, state, tasks, time, episode = now
            episode = episode + done
            if self.new_tasks:
                over = done & (episode >= spec.episodes_per_task)
                drawn = jax.vmap(self.env.sample_task)(self._split(task_key))
                tasks = _where(over, drawn, tasks)
                episode = jnp.where(over, 0, episode)
            fresh = jax.vmap(self.env.reset)(self._split(reset_key), tasks)
            obs, state = _where(done, fresh, (obs, state))
            return obs, state, tasks, jnp.where(done, 0, time), episode

        now: tuple[Array, State, Task, Array, Array] = last_obs, state, tasks, time, episode
        obs, *carry = jax.lax.cond(jnp.any(done), start_again, lambda now: now, now)
        return tuple(carry), (obs, last_obs, reward, terminated, truncated)

    def _split(self, key: Key) -> Key:
        return jax.random.split(key, self.num_envs)


def _spaces(spec: EnvSpec) -> tuple[spaces.Space, spaces.Space]:
    """Of observations and of actions."""
    observations = spaces.Box(-np.inf, np.inf, (spec.obs_dim,), np.float32)
    if isinstance(spec.action, Continuous):
        return observations, spaces.Box(-1.0, 1.0, (spec.action.num,), np.float32)
    return observations, spaces.Discrete(spec.action.num)


def _where(mask: Array, one: Any, other: Any) -> Any:
    """`mask` [B] chooses along the first axis of every leaf."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, one, other)


def make(
    env: str | Env, *, new_tasks: bool = False, render_mode: str | None = None, **settings: Any
) -> TaskEnv:
    """An environment, by name or as it is, for Gymnasium."""
    env = registry.make(env, **settings)
    name = registry.name_of(env)
    return TaskEnv(name, env, new_tasks=new_tasks, render_mode=render_mode)


def make_vec(
    env: str | Env, num_envs: int, *, new_tasks: bool = False, **settings: Any
) -> TaskVectorEnv:
    """`num_envs` copies of an environment, by name or as it is, each with a task of its own."""
    env = registry.make(env, **settings)
    return TaskVectorEnv(registry.name_of(env), env, num_envs, new_tasks=new_tasks)
