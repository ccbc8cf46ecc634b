"""Sparse navigation: PEARL's 2-D point robot with sparse rewards (Rakelly et al. 2019).

A point moves on the plane. A hidden goal lies on the unit semicircle, and rewards exist near it
only. An episode is short, and a task has several: the point returns to the origin, the goal
remains, and an agent with a memory of the goal need not search again.

Certain, read from PEARL's published code: the steps of 0.1 per axis, start at the origin,
goal on the unit semicircle, goal radius 0.2, reward 1 - d inside and 0 outside, 20 steps an
episode, 20 episodes at evaluation. Our choice: p(w) uniform over the angle (PEARL: a fixed
list of 100 such goals, 80 of them for training), 5 episodes a task at training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs import _tasks
from taskbelief.envs._settings import require, require_types
from taskbelief.types import Array, Continuous, EnvSpec, Key, Reals


class Task(NamedTuple):
    goal: Array  # [2] float32, in radii of the semicircle


class State(NamedTuple):
    position: Array  # [2] float32, in radii of the semicircle


@dataclass(frozen=True)
class SparseNavigation:
    episode_steps: int = 20
    """agent steps in an episode"""
    episodes: int = 5
    """in a meta-episode, at training [our choice]"""
    test_episodes: int = 20
    """episodes in a meta-episode, at evaluation"""
    step_size: float = 0.1
    """step size at full action, along each axis, radii"""
    goal_radius: float = 0.2
    """maximum distance from the goal with a reward, radii"""
    train_tasks: int = 100
    """size of the training set (PEARL: 80)"""
    holdout_tasks: int = 1000
    """size of the hold-out set (PEARL: 20)"""

    def __post_init__(self) -> None:
        require_types(self)
        require(self.episode_steps >= 1, "episode_steps", self.episode_steps, "at least 1")
        require(self.episodes >= 1, "episodes", self.episodes, "at least 1")
        require(self.test_episodes >= 1, "test_episodes", self.test_episodes, "at least 1")
        require(self.step_size > 0, "step_size", self.step_size, "positive")
        require(0 < self.goal_radius < 1, "goal_radius", self.goal_radius, "between 0 and 1")
        require(self.train_tasks >= 1, "train_tasks", self.train_tasks, "at least 1")
        require(self.holdout_tasks >= 1, "holdout_tasks", self.holdout_tasks, "at least 1")

    @property
    def spec(self) -> EnvSpec:
        place = Reals(2, centre=_CENTRE, scale=_SCALE, origin=(0, 1))
        farthest = self.step_size * self.episode_steps
        return EnvSpec(
            obs_dim=2,
            action=Continuous(2),
            task=place,
            goal=place,
            episode_steps=self.episode_steps,
            episodes_per_task=self.episodes,
            obs_range=((-farthest, farthest),) * 2,
        )

    # ---- tasks

    def sample_task(self, key: Key) -> Task:
        return _on_circle(jax.random.uniform(key, maxval=np.pi))

    def task_set(self, split: str, num: int | None = None) -> Task:
        sizes = (self.train_tasks, self.holdout_tasks)
        return _on_circle(_tasks.uniform(split, num, sizes, 0.0, np.pi))

    def describe(self, task: Task) -> Array:
        return task.goal

    def at_test(self) -> SparseNavigation:
        """Returns the same environment with the number of episodes of evaluation."""
        return replace(self, episodes=self.test_episodes)

    # ---- dynamics

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """Puts the point at the origin."""
        del key, task
        return jnp.zeros(2), State(jnp.zeros(2))

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Moves by `action`, [2] in [-1, 1], times the step size; deterministic. What is outside is
        clipped, and NaN counts as 0."""
        del key
        position = self._move(state.position, action)
        gap = jnp.linalg.norm(position - task.goal)
        reward = jnp.where(gap <= self.goal_radius, 1.0 - gap, 0.0)
        return position, State(position), reward, jnp.zeros((), bool)

    def dense_reward(self, next_obs: Array, task: Task) -> Array:
        """Returns minus the distance from the goal. PEARL's published code trains actor and critic
        on it, while the agent observes the sparse reward."""
        return -jnp.linalg.norm(next_obs - task.goal)

    def _move(self, position: Array, action: Array) -> Array:
        return position + self.step_size * self.spec.action.legal(action)

    # ---- references

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """Moves straight to the goal."""
        del key
        action = (task.goal - state.position) / self.step_size
        return action / jnp.maximum(1.0, jnp.max(jnp.abs(action)))  # keep the direction

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the position of the goal, [2], in radii."""
        del obs
        return task.goal

    def distance(self, state: State, task: Task) -> Array:
        """Returns the distance to the goal, in radii."""
        return jnp.linalg.norm(task.goal - state.position)

    # ---- likelihood

    def initial_carry(self, task: Task) -> tuple[()]:
        del task
        return ()

    def log_likelihood(
        self,
        task: Task,
        carry: tuple[()],
        obs: Array,
        action: Array,
        reward: Array,
        next_obs: Array,
    ) -> tuple[tuple[()], Array]:
        """Returns the log-likelihood of hit or miss, and of the distance that a reward implies,
        both softened by `_SOFT`.

        A grid of hypotheses represents all goals between its points: the nearest neighbours
        of the true goal must explain the observations as well.
        """
        del next_obs  # it can be the first observation of the next episode
        gap = jnp.linalg.norm(self._move(obs, action) - task.goal)
        inside = (self.goal_radius - gap) / _SOFT
        hit = jax.nn.log_sigmoid(inside) - jnp.abs(reward - (1.0 - gap)) / _SOFT
        return carry, jnp.where(reward > 0.0, hit, jax.nn.log_sigmoid(-inside))

    def hypotheses(self, num: int = 1000) -> tuple[Task, Array]:
        """Returns `num` goals, evenly spaced on the semicircle."""
        angles = (np.arange(num) + 0.5) * np.pi / num
        tasks = _on_circle(jnp.asarray(angles, jnp.float32))
        return tasks, jnp.full(num, -np.log(num), jnp.float32)


def _on_circle(angle: Array) -> Task:
    return Task(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1))


# mean and standard deviation of (cos, sin) of an angle uniform in (0, pi)
_CENTRE = (0.0, 2 / np.pi)
_SCALE = (np.sqrt(1 / 2), np.sqrt(1 / 2 - 4 / np.pi**2))

_SOFT = 2e-3  # in radii: about the spacing of a thousand hypotheses

make = SparseNavigation
