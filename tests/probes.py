"""Tiny environments that isolate one learning fault each, and a loop that trains on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from taskbelief import problem, trainer, training
from taskbelief.learners import ppo, svg0
from taskbelief.trainer import Trainer
from taskbelief.types import Array, Continuous, EnvSpec, Key, Reals
from tests import wiring


class Task(NamedTuple):
    sign: Array  # [] float32: -1 or 1


class State(NamedTuple):
    elapsed: Array  # [] int32


@dataclass(frozen=True)
class Probe(ABC):
    """Base of all probes: a hidden sign, one action in [-1, 1], a clock in the state."""

    steps: int = 1
    episodes: int = 1

    @property
    def spec(self) -> EnvSpec:
        sign = Reals(1, (0.0,), (1.0,))
        return EnvSpec(
            obs_dim=2,
            action=Continuous(1),
            task=sign,
            episode_steps=self.steps,
            episodes_per_task=self.episodes,
            terminates=True,
        )

    def sample_task(self, key: Key) -> Task:
        return Task(jax.random.rademacher(key, dtype=jnp.float32))

    def task_set(self, split: str, num: int | None = None) -> Task:
        del split, num
        return Task(jnp.array([-1.0, 1.0]))

    def describe(self, task: Task) -> Array:
        return task.sign[None]

    def observe(self, elapsed: Array, task: Task) -> Array:
        del task
        return jnp.stack([elapsed / self.steps, jnp.zeros(())])

    @abstractmethod
    def pay(self, elapsed: Array, action: Array, task: Task) -> Array:
        """The reward of a step, []."""

    def reset(self, key, task):
        del key
        zero = jnp.zeros((), jnp.int32)
        return self.observe(zero, task), State(zero)

    def step(self, key, state, action, task):
        del key
        reward = self.pay(state.elapsed, action[0], task)
        elapsed = state.elapsed + 1
        return self.observe(elapsed, task), State(elapsed), reward, elapsed >= self.steps


@dataclass(frozen=True)
class Value(Probe):
    """Reward 1 for every action: tests whether the critic learns a constant."""

    def pay(self, elapsed, action, task):
        return jnp.ones(())


@dataclass(frozen=True)
class Discount(Probe):
    """Reward 1 at the second of two steps: tests whether the value of the first is gamma."""

    steps: int = 2

    def pay(self, elapsed, action, task):
        return (elapsed == 1).astype(jnp.float32)


@dataclass(frozen=True)
class ActionGradient(Probe):
    """Largest reward at action 0.5: tests whether the actor ascends the critic."""

    def pay(self, elapsed, action, task):
        return 1.0 - jnp.square(action - 0.5)


@dataclass(frozen=True)
class Memory(Probe):
    """The sign is visible at the first step and necessary at the last: tests memory."""

    steps: int = 4

    def observe(self, elapsed, task):
        shown = jnp.where(elapsed == 0, task.sign, 0.0)
        return jnp.stack([elapsed / self.steps, shown])

    def pay(self, elapsed, action, task):
        return jnp.where(elapsed == self.steps - 1, 1.0 - jnp.square(action - 0.7 * task.sign), 0.0)


@dataclass(frozen=True)
class TaskReset(Probe):
    """The sign is never visible: tests memory across the end of an episode.

    The reward of each episode's first step depends on the sign, so that the second episode rewards
    an agent that remembers it. Between them is a step whose best action is 0, so that the previous
    action and reward, which the agent observes, do not depend on the sign when the second episode
    starts.
    """

    steps: int = 2
    episodes: int = 2

    def pay(self, elapsed, action, task):
        return 1.0 - jnp.square(action - jnp.where(elapsed == 0, 0.7 * task.sign, 0.0))


def build(env, agent_name: str, learner_name: str) -> Trainer:
    """Returns a trainer of the size of a probe. The agent "toy" has no memory."""
    posed = problem.make(env)
    if agent_name == "toy":
        agent = wiring.toy()
    else:
        agent = wiring.make_agent(agent_name, posed, hidden=16, encoder=16)
    if learner_name == "svg0":
        config = svg0.Config(
            gamma=0.9,
            learning_rate=3e-3,
            learning_rate_end=1.0,
            target_rate=0.05,
            actor_hidden=32,
            critic_hidden=32,
            privileged=False,
        )
        learner = svg0.make(posed, agent, config, 1000)
        sizes = training.Config(envs=16, updates=8, batch=32, replay_rows=512)
    else:
        on_policy = ppo.Config(
            gamma=0.9,
            learning_rate=3e-3,
            learning_rate_end=1.0,
            entropy_cost=0.0,
            actor_hidden=32,
            critic_hidden=32,
            minibatches=2,
            privileged=False,
        )
        learner = ppo.make(posed, agent, on_policy, 1000)
        sizes = training.Config(envs=64)
    return trainer.make(posed, agent, learner, sizes)


def learn(env, agent_name: str, learner_name: str, iterations: int):
    """Trains; returns (deterministic trajectory on both signs, metrics of the last iteration)."""
    trained = build(env, agent_name, learner_name)

    @jax.jit
    def run(key):
        state, metrics = jax.lax.scan(
            lambda state, _: trained.step(state), trained.init(key), None, iterations
        )
        tasks = env.task_set("train")
        trajectory = trained.play(state.learner.params, tasks, jax.random.key(1))
        return trajectory, jax.tree.map(lambda leaf: leaf[-1], metrics)

    return run(jax.random.key(0))
