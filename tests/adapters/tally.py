"""An environment whose every number can be worked out by hand."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from taskbelief.types import Array, Continuous, Discrete, EnvSpec, Reals


class Number(NamedTuple):
    number: Array  # [] float32: 1, 2 or 3 in training, 4 or 5 held out, 6 to 9 under p(w)


@dataclass(frozen=True)
class Tally:
    """Adds up its actions; the reward is ten times the task's number plus the sum so far. An
    episode has 4 steps, or ends when the sum reaches `edge`; by default a task has 8 steps."""

    edge: float = 100.0
    discrete: bool = False
    episodes: int = 2

    @property
    def spec(self):
        return EnvSpec(
            obs_dim=1,
            action=Discrete(3) if self.discrete else Continuous(1),
            task=Reals(1, (0.0,), (1.0,)),
            episode_steps=4,
            episodes_per_task=self.episodes,
            reward_range=(0.0, 110.0),
            terminates=self.edge < 100,
            obs_range=((-4.0, 8.0),),
        )

    def sample_task(self, key):
        return Number(6.0 + jax.random.randint(key, (), 0, 4))

    def task_set(self, split, num=None):
        return Number(jnp.asarray([1.0, 2.0, 3.0] if split == "train" else [4.0, 5.0])[:num])

    def describe(self, task):
        return task.number[None]

    def reset(self, key, task):
        return jnp.zeros(1), jnp.zeros(())

    def step(self, key, state, action, task):
        state = state + (action if self.discrete else action[0])
        return state[None], state, 10 * task.number + state, state >= self.edge
