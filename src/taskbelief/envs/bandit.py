"""Bernoulli bandit: 20 arms, 100 pulls (Humplik et al. 2019; RL², Duan et al. 2016).

The task is the vector of the arms' success probabilities. The observation is a constant:
all information is in the agent's previous action and reward.
Our choice: the prior of the probabilities, U(0, 1) each, independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs import _tasks
from taskbelief.envs._settings import require, require_types
from taskbelief.types import Array, Categories, Discrete, EnvSpec, Key, Probabilities


class Task(NamedTuple):
    probabilities: Array  # [arms] float32


class State(NamedTuple):
    pass


@dataclass(frozen=True)
class Bandit:
    arms: int = 20
    """number of arms"""
    horizon: int = 100
    """pulls in a meta-episode"""
    train_tasks: int = 100
    """size of the training set"""
    holdout_tasks: int = 1000
    """size of the hold-out set"""

    def __post_init__(self) -> None:
        require_types(self)
        require(self.arms >= 2, "arms", self.arms, "at least 2")
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1")
        require(self.train_tasks >= 1, "train_tasks", self.train_tasks, "at least 1")
        require(self.holdout_tasks >= 1, "holdout_tasks", self.holdout_tasks, "at least 1")

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            obs_dim=1,
            action=Discrete(self.arms),
            task=Probabilities(self.arms),
            goal=Categories(1, self.arms),
            episode_steps=self.horizon,
            obs_range=((0.0, 1.0),),
        )

    # ---- tasks

    def sample_task(self, key: Key) -> Task:
        return Task(jax.random.uniform(key, (self.arms,)))

    def task_set(self, split: str, num: int | None = None) -> Task:
        sizes = (self.train_tasks, self.holdout_tasks)
        return Task(_tasks.uniform(split, num, sizes, 0.0, 1.0, (self.arms,)))

    def describe(self, task: Task) -> Array:
        return task.probabilities

    def at_test(self) -> Bandit:
        return self

    # ---- dynamics

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        del key, task
        return jnp.ones(1), State()

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Gives reward 1 with the probability of the arm `action`, [] int32; outside the range, of
        the nearest arm."""
        action = self.spec.action.legal(action)
        win = jax.random.uniform(key) < task.probabilities[action]
        return jnp.ones(1), state, win.astype(jnp.float32), jnp.zeros((), bool)

    # ---- references

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """Returns the best arm."""
        del key, state
        return jnp.argmax(task.probabilities).astype(jnp.int32)

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the best arm, [1]."""
        del obs
        return jnp.argmax(task.probabilities, keepdims=True).astype(jnp.int32)

    def distance(self, state: State, task: Task) -> Array:
        del state, task
        return jnp.zeros(())

    # ---- likelihood

    def of_probabilities(self, probabilities: Array) -> Task:
        return Task(probabilities)

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
        del obs, next_obs
        p = task.probabilities[action]
        return carry, jnp.where(reward > 0.5, jnp.log(p), jnp.log1p(-p))

    def hypotheses(self, num: int = 1024) -> tuple[Task, Array]:
        """Draws `num` vectors from the prior. The exact posterior is conjugate (posterior.py)."""
        rng = np.random.Generator(np.random.PCG64(2))
        tasks = jnp.asarray(rng.uniform(size=(num, self.arms)), jnp.float32)
        return Task(tasks), jnp.full(num, -np.log(num), jnp.float32)


make = Bandit
