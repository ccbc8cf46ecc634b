"""A toy environment, agent, teacher and learner whose trajectories record how they were generated.

Observations, actions and labels contain the random keys that they were generated with; a task is
a number, and so is a version of the parameters. There are no networks, so that most tests take
milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.types import (
    Agent,
    Array,
    Continuous,
    EnvSpec,
    Features,
    Learner,
    Needs,
    Reals,
    Teacher,
)

TRAIN = np.arange(6.0)  # the tasks of the training set
HOLDOUT = np.arange(100.0, 110.0)


def marks(key) -> Array:
    """Encodes a key as four numbers that float32 represents exactly, [4]; None: all -1."""
    if key is None:
        return -jnp.ones(4)
    data = jax.random.key_data(key)
    return jnp.concatenate([data >> 16, data & 0xFFFF]).astype(jnp.float32)


def keys_of(marked) -> Array:
    """Decodes marks, [..., 4], to keys, [N]."""
    halves = np.asarray(marked).reshape(-1, 4).astype(np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(halves[:, :2] << 16 | halves[:, 2:]))


class Task(NamedTuple):
    number: Array  # []


class State(NamedTuple):
    steps: Array  # [] int32: since the reset


@dataclass(frozen=True)
class World:
    """Each reward is 1000 times the number of the task, plus the steps since the reset."""

    episode_steps: int = 4
    episodes: int = 1
    ends_after: int = 0
    """steps after which an episode of an odd task terminates; 0: none terminates"""
    help: bool = False
    """help that exists in training only"""

    @property
    def spec(self) -> EnvSpec:
        label = Reals(4, (0.0,) * 4, (1.0,) * 4)
        return EnvSpec(
            obs_dim=6,
            action=Continuous(5),
            task=label,
            goal=label,
            episode_steps=self.episode_steps,
            episodes_per_task=self.episodes,
            terminates=bool(self.ends_after),
        )

    def sample_task(self, key) -> Task:
        return Task(jax.random.choice(key, jnp.asarray(TRAIN, jnp.float32)))

    def describe(self, task) -> Array:
        return jnp.broadcast_to(task.number, (4,))

    def task_set(self, split: str, num: int | None = None) -> Task:
        return Task(jnp.asarray({"train": TRAIN, "holdout": HOLDOUT}[split][:num], jnp.float32))

    def at_test(self) -> World:
        return replace(self, help=False)

    def reset(self, key, task):
        state = State(jnp.zeros((), jnp.int32))
        return self._observe(key, state, task), state

    def step(self, key, state, action, task):
        after = State(state.steps + 1)
        reward = 1000.0 * task.number + after.steps
        terminated = (after.steps == self.ends_after) & (task.number % 2 == 1)
        return self._observe(key, after, task), after, reward, terminated

    def _observe(self, key, state, task):
        """Returns the task, the steps since the reset, and the key of the reset or step."""
        return jnp.concatenate([jnp.stack([task.number, state.steps * 1.0]), marks(key)])


def teacher() -> Teacher:
    """Returns a teacher whose labels are the keys that it receives."""
    return Teacher(lambda carry, key, inputs, state, task: (carry, marks(key)))


def clock() -> Teacher:
    """Returns a teacher whose label is the number of steps since the reset, [1]."""
    return Teacher(lambda carry, key, inputs, state, task: (carry, state.steps[None] * 1.0))


def agent() -> Agent:
    """Returns an agent that predicts the clock in its observation; its carry counts the steps."""

    def unroll(params, carry, inputs, key):
        belief = inputs.obs[..., 1:2]
        steps, _, _ = belief.shape
        return carry + steps, Features(belief, belief, belief, jnp.zeros(belief.shape[:2]))

    return Agent(
        init=lambda key: {},
        initial_carry=jnp.zeros,
        unroll=unroll,
        aux_loss=lambda params, features, label: (jnp.zeros(()), {}),
        belief_log_prob=lambda params, features, label: (
            -jnp.square(features.belief - label.h).sum(-1)
        ),
    )


class Diary(NamedTuple):
    """State of a learner that records its inputs."""

    params: Any  # {"agent", "version"}: the version is the number of updates
    first: Array  # [updates, B, 6]: the first observation of each meta-episode
    last: Array  # [updates, B, 6]: the last observation of each
    keys: Array  # [updates, 4]


def learner(batch: int, updates: int, on_policy: bool = False) -> Learner:
    """Returns a learner whose actions contain its key and the version of its parameters."""

    def init(key):
        params = {"agent": {}, "version": jnp.zeros((), jnp.int32)}
        unseen = jnp.full((updates, batch, 6), -1.0)
        return Diary(params, unseen, unseen, jnp.full((updates, 4), -1.0))

    def act(params, carry, inputs, key):
        carry, features = agent().unroll(params["agent"], carry, inputs, key)
        version = jnp.float32(params["version"])
        said = jnp.concatenate([marks(key), version[None]])
        size = inputs.obs.shape[1]
        return carry, jnp.broadcast_to(said, (size, 5)), features.belief[0, :, 0]

    def update(state, played, key):
        version = state.params["version"]
        after = Diary(
            state.params | {"version": version + 1},
            state.first.at[version].set(played.inputs.obs[0]),
            state.last.at[version].set(played.inputs.obs[-1]),
            state.keys.at[version].set(marks(key)),
        )
        return after, {"version": jnp.float32(version)}

    return Learner(init, act, update, Needs(on_policy=on_policy))
