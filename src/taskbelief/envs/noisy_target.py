"""Noisy target: find a hidden place from coin flips (Humplik et al. 2019).

A ball rolls on a floor. Each step gives reward 1 with probability min(0.5, 1 / (1 + d²)),
where d is its distance to a hidden target on a semicircle, of radius 5 in the unit of d.
The arrival at the target has no effect. One reward carries little information, and the
agent has to integrate many.

Certain: the rolling ball without teleports, the reward, the semicircle. Our choice, because
no source gives it: every number below, p(w) uniform over the angle, the start of the ball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs import _ball, _tasks
from taskbelief.envs._settings import require, require_types
from taskbelief.types import Array, Continuous, EnvSpec, Key, Reals


class Task(NamedTuple):
    target: Array  # [2] float32, in radii of the semicircle


class State(NamedTuple):
    position: Array  # [2] float32, in radii from the centre of the semicircle
    velocity: Array  # [2] float32, in radii per step


@dataclass(frozen=True)
class NoisyTarget:
    radius: float = 5.0
    """radius of the semicircle, in the unit of d [our choice]"""
    horizon: int = 100
    """agent steps in a meta-episode [our choice]"""
    force: float = 0.025
    """largest force on each axis, radii per step²: the radius takes 20 steps [our choice]"""
    friction: float = 0.5
    """share of the velocity lost per step [our choice]"""
    arena: float = 1.2
    """half the side of the square that the ball cannot leave, radii [our choice]"""
    train_tasks: int = 100
    """size of the training set"""
    holdout_tasks: int = 1000
    """size of the hold-out set"""

    def __post_init__(self) -> None:
        require_types(self)
        require(self.radius > 0, "radius", self.radius, "positive")
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1")
        require(self.force > 0, "force", self.force, "positive")
        require(0 < self.friction < 1, "friction", self.friction, "in (0, 1)")
        require(self.arena >= 1, "arena", self.arena, "at least 1, to hold the semicircle")
        require(self.train_tasks >= 1, "train_tasks", self.train_tasks, "at least 1")
        require(self.holdout_tasks >= 1, "holdout_tasks", self.holdout_tasks, "at least 1")

    @property
    def spec(self) -> EnvSpec:
        place = Reals(2, centre=_CENTRE, scale=_SCALE, origin=(0, 1))
        return EnvSpec(
            obs_dim=4,
            action=Continuous(2),
            task=place,
            goal=place,
            episode_steps=self.horizon,
            obs_range=((-self.arena, self.arena),) * 2 + ((-1.0, 1.0),) * 2,
        )

    # ---- tasks

    def sample_task(self, key: Key) -> Task:
        return _on_circle(jax.random.uniform(key, maxval=np.pi))

    def task_set(self, split: str, num: int | None = None) -> Task:
        sizes = (self.train_tasks, self.holdout_tasks)
        return _on_circle(_tasks.uniform(split, num, sizes, 0.0, np.pi))

    def describe(self, task: Task) -> Array:
        return task.target

    def at_test(self) -> NoisyTarget:
        return self

    # ---- dynamics

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """Puts the ball at rest in the centre of the semicircle."""
        del key, task
        state = State(position=jnp.zeros(2), velocity=jnp.zeros(2))
        return self._observe(state), state

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Rolls the ball by the force `action`, [2] in [-1, 1], clipped, where NaN counts as 0;
        then draws the reward at its new position."""
        action = self.spec.action.legal(action)
        state = State(
            *_ball.roll(
                state.position,
                state.velocity,
                self.force * action,
                friction=self.friction,
                wall=self.arena,
            )
        )
        reward = jax.random.uniform(key) < self._chance(state.position, task)
        return self._observe(state), state, reward.astype(jnp.float32), jnp.zeros((), bool)

    def _chance(self, position: Array, task: Task) -> Array:
        """Returns the probability of reward 1 at `position`."""
        gap = self.radius * (position - task.target)
        return jnp.minimum(0.5, 1.0 / (1.0 + jnp.sum(jnp.square(gap))))

    def _observe(self, state: State) -> Array:
        """Returns the observation [position 2, in radii; velocity 2, in top speeds]."""
        top_speed = self.force / self.friction
        return jnp.concatenate([state.position, state.velocity / top_speed])

    # ---- references

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """Rolls straight to the target and stays there."""
        del key
        force = _ball.force_to_reach(
            task.target - state.position, state.velocity, friction=self.friction, substeps=1
        )
        action = force / self.force
        return action / jnp.maximum(1.0, jnp.max(jnp.abs(action)))  # keep the direction

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the target's position, [2], in radii."""
        del obs
        return task.target

    def distance(self, state: State, task: Task) -> Array:
        """Returns the distance to the target, in radii."""
        return jnp.linalg.norm(task.target - state.position)

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
        """Returns the log-likelihood of the reward at the new position of the ball."""
        del obs, action
        chance = self._chance(next_obs[:2], task)
        return carry, jnp.where(reward > 0.5, jnp.log(chance), jnp.log1p(-chance))

    def hypotheses(self, num: int = 1000) -> tuple[Task, Array]:
        """Returns `num` targets, evenly spaced on the semicircle."""
        angles = (np.arange(num) + 0.5) * np.pi / num
        tasks = _on_circle(jnp.asarray(angles, jnp.float32))
        return tasks, jnp.full(num, -np.log(num), jnp.float32)


def _on_circle(angle: Array) -> Task:
    return Task(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1))


# mean and standard deviation of (cos, sin) of an angle uniform in (0, pi)
_CENTRE = (0.0, 2 / np.pi)
_SCALE = (np.sqrt(1 / 2), np.sqrt(1 / 2 - 4 / np.pi**2))

make = NoisyTarget
