"""What the adapters share: a whole meta-episode as one episode of another project's interface.

A new task is drawn at each start. Within a meta-episode the state is reset whenever an episode
of the task ends, by itself or out of time, and the task goes on, as in `rollout`. The time
limit of the meta-episode is a truncation: the task could have gone on.

An observation is the vector of `view`, with or without the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import view
from taskbelief.envs._settings import require
from taskbelief.types import Array, Continuous, Env, Key, State, Task

TASKS = ("train", "holdout", "all")


class Play(NamedTuple):
    """A meta-episode under way; the task is held apart."""

    state: State
    time: Array  # [] int32: steps since the task began
    elapsed: Array  # [] int32: steps since the episode began


class Step(NamedTuple):
    """What a step led to."""

    obs: Array  # [size]: as the policy sees it
    reward: Array  # [] float32
    over: Array  # [] bool: the meta-episode is
    episode_end: Array  # [] bool: an episode of the task is, by itself or out of time
    reached: Array  # [obs_dim]: what the action led to; a reset replaces it in `obs`


@dataclass(frozen=True)
class View:
    """An environment of this library, seen from outside. Unbatched, pure functions."""

    env: Env
    tasks: str = "train"
    history: bool = True

    def __post_init__(self) -> None:
        require(self.tasks in TASKS, "tasks", self.tasks, f"one of {', '.join(TASKS)}")
        require(isinstance(self.history, bool), "history", self.history, "True or False")

    @property
    def size(self) -> int:
        """Entries of an observation."""
        spec = self.env.spec
        return view.size(spec) if self.history else spec.obs_dim

    @property
    def resets(self) -> bool:
        """Whether a task may have several episodes."""
        spec = self.env.spec
        return spec.episodes_per_task > 1 or spec.terminates

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the least and the greatest value of each entry of an observation, [size] float32
        each, with room for rounding; infinite where the environment gives none."""
        spec = self.env.spec
        own = np.asarray(spec.obs_range or [(-np.inf, np.inf)] * spec.obs_dim, np.float32)
        own = own + np.float32([-1e-6, 1e-6]) * np.where(np.isfinite(own), np.abs(own), 0)
        if self.history:
            least = -1.0 if isinstance(spec.action, Continuous) else 0.0
            paid = (min(spec.reward_range[0], 0.0), max(spec.reward_range[1], 0.0))
            more = [(least, 1.0)] * spec.action.num + [paid, (0.0, 1.0)]
            own = np.concatenate([own, np.asarray(more)])
        return own[:, 0].astype(np.float32), own[:, 1].astype(np.float32)

    def draw(self, key: Key) -> Task:
        """A task of the set, each as probable; of "all": w ~ p(w)."""
        if self.tasks == "all":
            return self.env.sample_task(key)
        tasks = self.env.task_set(self.tasks)
        index = jax.random.randint(key, (), 0, jax.tree.leaves(tasks)[0].shape[0])
        return jax.tree.map(lambda leaf: leaf[index], tasks)

    def start(self, key: Key, task: Task) -> tuple[Array, Play]:
        """The first observation [size] of a meta-episode on `task`."""
        obs, state = self.env.reset(key, task)
        zero = jnp.zeros((), jnp.int32)
        num = self.env.spec.action.num
        seen = self._seen(obs, jnp.zeros(num), jnp.zeros(()), jnp.ones((), bool))
        return seen, Play(state, zero, zero)

    def step(
        self, key: Key, play: Play, action: Array, task: Task, limit: Array | int | None = None
    ) -> tuple[Play, Step]:
        """Takes one step. `limit` shortens the meta-episode, in steps; it cannot prolong it.

        Raises:
          ValueError: while tracing, the action is of the wrong shape or type. One that is
            outside the action space is clipped, and NaN counts as 0.
        """
        spec = self.env.spec
        action = spec.action.legal(action)
        step_key, reset_key = jax.random.split(key) if self.resets else (key, key)
        obs, state, reward, terminated = self.env.step(step_key, play.state, action, task)
        reached, time, elapsed = obs, play.time + 1, play.elapsed + 1
        over = time >= spec.task_steps
        if limit is not None:
            over = over | (time >= limit)
        episode_end = terminated | (elapsed >= spec.episode_steps) | over
        again = jnp.zeros((), bool)
        if self.resets:
            again = episode_end & ~over
            fresh = self.env.reset(reset_key, task)
            obs, state = where(again, fresh, (obs, state))
            elapsed = jnp.where(again, 0, elapsed)
        seen = self._seen(obs, spec.action.embed(action), reward, again)
        return Play(state, time, elapsed), Step(seen, reward, over, episode_end, reached)

    def _seen(self, obs: Array, action: Array, reward: Array, episode_start: Array) -> Array:
        if not self.history:
            return obs
        return view.join(obs, action, reward, episode_start)


def where(condition: Array, one: Any, other: Any) -> Any:
    """`condition`, [] or [B], chooses between two trees, along the first axis of their leaves."""

    def choose(a: Array, b: Array) -> Array:
        extra = (1,) * (jnp.ndim(a) - condition.ndim)
        return jnp.where(condition.reshape(condition.shape + extra), a, b)

    return jax.tree.map(choose, one, other)
