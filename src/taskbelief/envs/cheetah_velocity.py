"""Cheetah velocity: run at a hidden speed (Humplik et al. 2019), on Brax's half-cheetah.

The body, its observations and its resets are Brax's own; only the reward is replaced, by
max(1 - abs(v / v_target - 1), 0) of the forward velocity v, without a cost of control.

Certain: the body, the reward. Our choice, because no source gives it: the range of target
speeds and p(w) uniform over it; that v is the forward velocity in the last observation
(Brax's own reward uses the displacement over the step, which an agent does not observe); the
physics backend. The horizon is that of other half-cheetah tasks.

Needs Brax, which is imported when the body is first built.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs import _tasks
from taskbelief.envs._settings import require, require_types
from taskbelief.types import Array, Continuous, EnvSpec, Key, Reals

BACKENDS = ("spring", "positional", "generalized", "mjx")

_FORWARD = 8  # index of the forward velocity in the observation, after 8 coordinates


class Task(NamedTuple):
    speed: Array  # [] float32, v_target in metres per second


class State(NamedTuple):
    body: Any  # brax.envs.State


@dataclass(frozen=True)
class CheetahVelocity:
    slowest: float = 0.5
    """smallest target speed, metres per second [our choice]"""
    fastest: float = 3.0
    """largest target speed, metres per second [our choice]"""
    horizon: int = 200
    """agent steps in an episode, of 0.05 seconds each"""
    episodes: int = 1
    """episodes in a meta-episode; the body is reset between them, the target speed remains"""
    backend: str = "spring"
    """Brax's physics: "spring", "positional", "generalized" or "mjx" [our choice]"""
    train_tasks: int = 100
    """size of the training set"""
    holdout_tasks: int = 1000
    """size of the hold-out set"""

    def __post_init__(self) -> None:
        require_types(self)
        require(self.slowest > 0, "slowest", self.slowest, "positive")
        require(
            self.fastest > self.slowest, "fastest", self.fastest, f"above slowest={self.slowest}"
        )
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1")
        require(self.episodes >= 1, "episodes", self.episodes, "at least 1")
        require(self.backend in BACKENDS, "backend", self.backend, f"one of {', '.join(BACKENDS)}")
        require(self.train_tasks >= 1, "train_tasks", self.train_tasks, "at least 1")
        require(self.holdout_tasks >= 1, "holdout_tasks", self.holdout_tasks, "at least 1")

    @property
    def spec(self) -> EnvSpec:
        middle, width = (self.slowest + self.fastest) / 2, self.fastest - self.slowest
        speed = Reals(1, centre=(middle,), scale=(width / np.sqrt(12),), origin=(_FORWARD,))
        return EnvSpec(
            obs_dim=17,
            action=Continuous(6),
            task=speed,
            goal=speed,
            episode_steps=self.horizon,
            episodes_per_task=self.episodes,
        )

    @property
    def body(self) -> Any:
        """Returns Brax's half-cheetah, shared by all environments of one backend."""
        return _body(self.backend)

    # ---- tasks

    def sample_task(self, key: Key) -> Task:
        return Task(jax.random.uniform(key, minval=self.slowest, maxval=self.fastest))

    def task_set(self, split: str, num: int | None = None) -> Task:
        sizes = (self.train_tasks, self.holdout_tasks)
        return Task(_tasks.uniform(split, num, sizes, self.slowest, self.fastest))

    def describe(self, task: Task) -> Array:
        return task.speed[None]

    def at_test(self) -> CheetahVelocity:
        return self

    # ---- dynamics

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """Resets the body as Brax does: the default pose with a little noise."""
        del task
        body = _body(self.backend).reset(key)
        return body.obs, State(body)

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Advances Brax's half-cheetah by torques `action`, [6] in [-1, 1], clipped, where NaN
        counts as 0; deterministic, `key` is not used."""
        del key
        action = self.spec.action.legal(action)
        body = state.body.replace(metrics=dict(state.body.metrics))  # Brax writes into it
        body = _body(self.backend).step(body, action)
        reward = _reward(body.obs, task)
        return body.obs, State(body), reward, jnp.zeros((), bool)

    # ---- references (no expert: a gait for each speed is not scripted)

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the target speed, [1], metres per second."""
        del obs
        return task.speed[None]

    def distance(self, state: State, task: Task) -> Array:
        """Returns the distance of the current speed from the target speed, metres per second."""
        return jnp.abs(state.body.obs[_FORWARD] - task.speed)

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
        """Returns the log-likelihood of the reward, given the velocity that the agent observes.

        The reward is a function of speed and task: its density is a spike, whose height is
        the inverse of the reward's slope by v_target. A grid of hypotheses represents
        all speeds between its points, so the spike has the width of a cell.
        """
        del obs, action
        velocity = next_obs[_FORWARD]
        slope = jnp.abs(velocity) / jnp.square(task.speed)  # of the reward, by v_target
        width = _SOFT * slope + 1e-5
        off = jnp.abs(reward - _reward(next_obs, task)) / width
        # Zero reward (too fast, or not forwards) is an event with a probability, not a density.
        return carry, jnp.where(reward > 0.0, -off - jnp.log(width), -off)

    def hypotheses(self, num: int = 1000) -> tuple[Task, Array]:
        """Returns `num` speeds, evenly spaced."""
        shares = (np.arange(num) + 0.5) / num
        speeds = self.slowest + (self.fastest - self.slowest) * shares
        return Task(jnp.asarray(speeds, jnp.float32)), jnp.full(num, -np.log(num), jnp.float32)


def _reward(obs: Array, task: Task) -> Array:
    """Returns the reward: 1 at the target speed, less on either side, 0 at rest and from its
    double."""
    return jnp.maximum(1.0 - jnp.abs(obs[_FORWARD] / task.speed - 1.0), 0.0)


@functools.lru_cache
def _body(backend: str) -> Any:
    """Returns Brax's half-cheetah, built once for each backend."""
    try:
        from brax import envs
    except ImportError as error:
        raise ImportError("cheetah_velocity needs Brax: pip install brax") from error
    # The model consists of concrete arrays, not of tracers, although `make` may run under jit.
    with jax.ensure_compile_time_eval():
        return envs.get_environment("halfcheetah", backend=backend)


_SOFT = 2.5e-3  # metres per second: the spacing of a thousand hypotheses

make = CheetahVelocity
