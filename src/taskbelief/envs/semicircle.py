"""Semicircle: a point mass searches a target on a semicircle (Humplik et al. 2019).

The task is the target's angle. A unicycle drives by speed and turn rate. The arrival at
the target gives reward 1 and teleports it back to the origin, so that an agent benefits from
its memory of the target.

Certain from two codes that cite the paper's appendix: the unicycle, its speed and turn rate,
time step, action repeat broken off on a hit, heading updated before the position, start at
the origin with a random heading, redrawn on teleport, reward and p(w). Our choice: the
scale (radius 1; the ratio of target radius to it is certain), the horizon, the arena.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs import _tasks
from taskbelief.envs._settings import require, require_types
from taskbelief.types import Array, Continuous, EnvSpec, Key, Reals


class Task(NamedTuple):
    angle: Array  # [] float32, radians in (0, pi)


class State(NamedTuple):
    position: Array  # [2] float32, in radii of the semicircle
    heading: Array  # [] float32, radians


@dataclass(frozen=True)
class Semicircle:
    horizon: int = 100
    """agent steps in an episode [our choice]"""
    episodes: int = 1
    """episodes in a meta-episode; the mass returns to the origin between them, the target
    remains"""
    target_radius: float = 0.2
    """distance from the target that counts as reaching it, in radii of the semicircle"""
    max_speed: float = 1.0
    """speed at full action, radii per second"""
    max_turn_rate: float = 2 * np.pi
    """turn rate at full action, radians per second"""
    time_step: float = 0.01
    """time step of the physics, seconds"""
    action_repeat: int = 10
    """physics steps per agent step, broken off when the target is reached"""
    arena: float = 1.5
    """half the side of the square that the ball cannot leave, radii [our choice]"""
    train_tasks: int = 100
    """size of the training set"""
    holdout_tasks: int = 1000
    """size of the hold-out set"""

    def __post_init__(self) -> None:
        require_types(self)
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1")
        require(self.episodes >= 1, "episodes", self.episodes, "at least 1")
        require(0 < self.target_radius < 1, "target_radius", self.target_radius, "between 0 and 1")
        require(self.max_speed > 0, "max_speed", self.max_speed, "positive")
        require(self.max_turn_rate > 0, "max_turn_rate", self.max_turn_rate, "positive")
        require(self.time_step > 0, "time_step", self.time_step, "positive")
        require(self.action_repeat >= 1, "action_repeat", self.action_repeat, "at least 1")
        require(self.arena >= 1, "arena", self.arena, "at least 1, to hold the semicircle")
        require(self.train_tasks >= 1, "train_tasks", self.train_tasks, "at least 1")
        require(self.holdout_tasks >= 1, "holdout_tasks", self.holdout_tasks, "at least 1")

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            obs_dim=4,
            action=Continuous(2),
            task=Reals(1, centre=(np.pi / 2,), scale=(np.pi / np.sqrt(12),)),
            goal=Reals(2, centre=(0.0, 2 / np.pi), scale=(np.sqrt(0.5), 0.31), origin=(0, 1)),
            episode_steps=self.horizon,
            episodes_per_task=self.episodes,
            obs_range=((-self.arena, self.arena),) * 2 + ((-1.0, 1.0),) * 2,
        )

    # ---- tasks

    def sample_task(self, key: Key) -> Task:
        return Task(jax.random.uniform(key, maxval=np.pi))

    def task_set(self, split: str, num: int | None = None) -> Task:
        sizes = (self.train_tasks, self.holdout_tasks)
        return Task(_tasks.uniform(split, num, sizes, 0.0, np.pi))

    def describe(self, task: Task) -> Array:
        return task.angle[None]

    def at_test(self) -> Semicircle:
        return self

    # ---- dynamics

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """Puts the mass at the origin, with a random heading."""
        del task
        heading = jax.random.uniform(key, minval=-np.pi, maxval=np.pi)
        state = State(position=jnp.zeros(2), heading=heading)
        return self._observe(state), state

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Drives for `action_repeat` physics steps; `action` is (speed, turn rate) in [-1, 1],
        clipped; NaN counts as 0."""
        action = self.spec.action.legal(action)
        positions, headings = self._drive(state, action)
        gaps = jnp.linalg.norm(positions - self._target(task), axis=-1)
        hit = jnp.any(gaps < self.target_radius)
        moved = State(position=positions[-1], heading=headings[-1])
        _, start = self.reset(key, task)
        state = jax.tree.map(lambda a, b: jnp.where(hit, a, b), start, moved)
        return self._observe(state), state, hit.astype(jnp.float32), jnp.zeros((), bool)

    def _drive(self, state: State, action: Array) -> tuple[Array, Array]:
        """Returns positions [action_repeat, 2] and headings [action_repeat] after each physics
        step."""
        action = jnp.clip(action, -1.0, 1.0)
        turn = action[1] * (self.max_turn_rate * self.time_step)
        headings = state.heading + turn * jnp.arange(1, self.action_repeat + 1)
        directions = jnp.stack([jnp.cos(headings), jnp.sin(headings)], axis=-1)
        position, positions = state.position, []
        for direction in directions:
            position = position + action[0] * (self.max_speed * self.time_step) * direction
            position = jnp.clip(position, -self.arena, self.arena)
            positions.append(position)
        return jnp.stack(positions), headings

    def _observe(self, state: State) -> Array:
        """Returns the observation [x, y, sin(heading), cos(heading)]."""
        direction = jnp.stack([jnp.sin(state.heading), jnp.cos(state.heading)])
        return jnp.concatenate([state.position, direction])

    def _target(self, task: Task) -> Array:
        return jnp.stack([jnp.cos(task.angle), jnp.sin(task.angle)])

    # ---- references

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """Turns to the target, forwards or backwards as is nearer, at full speed once near it."""
        del key
        offset = self._target(task) - state.position
        bearing = jnp.arctan2(offset[1], offset[0]) - state.heading
        bearing = jnp.arctan2(jnp.sin(bearing), jnp.cos(bearing))
        backwards = jnp.abs(bearing) > np.pi / 2
        turn = bearing - jnp.where(backwards, jnp.sign(bearing) * np.pi, 0.0)
        per_step = self.max_turn_rate * self.time_step * self.action_repeat
        speed = jnp.where(backwards, -1.0, 1.0) * jnp.cos(turn)
        return jnp.clip(jnp.stack([speed, turn / per_step]), -1.0, 1.0)

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the target's position, [2], in radii."""
        del obs
        return self._target(task)

    def distance(self, state: State, task: Task) -> Array:
        """Returns the distance to the target, in radii."""
        return jnp.linalg.norm(self._target(task) - state.position)

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
        """Returns the log-likelihood of hit or miss, with the rim of the target softened by `_RIM`.

        A grid of hypotheses represents all angles between its points: with a sharp rim all
        neighbours of the true angle could be excluded.
        """
        del next_obs
        state = State(position=obs[:2], heading=jnp.arctan2(obs[2], obs[3]))
        positions, _ = self._drive(state, action)
        gap = jnp.min(jnp.linalg.norm(positions - self._target(task), axis=-1))
        inside = (self.target_radius - gap) / _RIM
        return carry, jax.nn.log_sigmoid(jnp.where(reward > 0.5, inside, -inside))

    def hypotheses(self, num: int = 1000) -> tuple[Task, Array]:
        """Returns `num` angles, evenly spaced in (0, pi)."""
        angles = (np.arange(num) + 0.5) * np.pi / num
        return Task(jnp.asarray(angles, jnp.float32)), jnp.full(num, -np.log(num), jnp.float32)


_RIM = 2e-3  # in radii: about the spacing of a thousand hypotheses

make = Semicircle
