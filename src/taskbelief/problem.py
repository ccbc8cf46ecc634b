"""Problems: an environment with a label, for which agents are made.

Labels exist in training only. Only `revealed` makes them visible to an agent, to oracles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from taskbelief import posterior, registry, types
from taskbelief.labels import Expert, LabelKind
from taskbelief.networks import heads
from taskbelief.posterior import Posterior
from taskbelief.types import (
    Array,
    Env,
    EnvSpec,
    HasDenseReward,
    HasLikelihood,
    Key,
    Needs,
    Privileged,
    State,
    Task,
    Teacher,
)


@dataclass(frozen=True)
class Problem:
    env: Env
    label: LabelKind
    dense: bool = False  # actor and critic learn from the environment's dense reward

    def __post_init__(self) -> None:
        if self.dense and not isinstance(self.env, HasDenseReward):
            raise ValueError("dense: this environment has no dense reward; sparse_navigation has")

    @property
    def spec(self) -> EnvSpec:
        return self.env.spec

    def at_test(self) -> Problem:
        """Returns the problem without the help that training may give."""
        return replace(self, env=types.at_test(self.env), dense=False)

    def check(self, needs: Needs) -> None:
        """Refuses an agent or a learner with needs that this problem does not meet.

        Raises:
          ValueError: one sentence that names the missing part.
        """
        if needs.several_episodes and self.spec.episodes_per_task == 1:
            raise ValueError(
                "this agent needs tasks of several episodes, and a task of this environment is one"
                " single episode: sparse_navigation has several, semicircle and cheetah_velocity as"
                " many as env.episodes says; belief and aux_head fit any"
            )
        if needs.posterior and not isinstance(self.env, HasLikelihood):
            raise ValueError(
                f"{type(self.env).__name__} has no exact posterior to act on (see"
                " types.HasLikelihood); belief learns one"
            )

    def seen(self, needs: Needs) -> Problem:
        """Returns the problem that an agent with these needs observes."""
        return self.revealed() if needs.revealed else self

    def revealed(self) -> Problem:
        """Returns the problem with the label, as input of networks, at the end of each observation:
        for oracles only.

        Raises:
          ValueError: the label depends on earlier steps, so that an observation cannot contain it.
        """
        if self.label.momentary is None:
            raise ValueError("an oracle cannot observe the action of a trained expert")
        return replace(self, env=_Revealed(self), dense=False)

    def reveal(self, key: Key, obs: Array, state: State, task: Task) -> Array:
        """Appends the label to `obs`."""
        assert self.label.momentary is not None
        h = self.label.momentary(key, obs, state, task)
        return jnp.concatenate([obs, heads.label_head(self.label.spec).embed(h, obs)])

    def posterior(self, num: int = 1000) -> Posterior:
        """Returns the exact posterior, on a grid of about `num` hypotheses where W is not finite.

        Raises:
          ValueError: the environment has none.
        """
        return posterior.make(self.env, num)

    def teacher(self, labels: bool, task: bool = False) -> Teacher | None:
        """Returns the teacher of a training: `labels`: it produces labels; `task`: labels contain
        the task; it provides the dense reward where the problem uses it. None: none of these."""
        if not (labels or task or self.dense):
            return None
        silent = Teacher(lambda carry, *_: (carry, ()))
        teach = (self.label.teacher if labels else silent)._replace(task=task)
        if not self.dense:
            return teach
        env = self.env
        assert isinstance(env, HasDenseReward)
        size = env.spec.obs_dim  # an oracle's observations end with the label
        return teach._replace(reward=lambda next_obs, task: env.dense_reward(next_obs[:size], task))

    def privileged(self) -> Privileged:
        """Returns the hidden task as input of privileged critics."""
        return heads.privileged(self.env)


def make(
    env: Env, label: str = "description", expert: Expert | None = None, *, dense: bool = False
) -> Problem:
    """Returns the problem of `env` with the label of that name.

    Raises:
      ValueError: an unknown label, or one that this environment or this expert cannot provide.
    """
    return Problem(env, registry.find("labels", label).make(env, expert), dense)


@dataclass(frozen=True)
class _Revealed:
    """The problem's environment with the label at the end of each observation."""

    problem: Problem

    @property
    def spec(self) -> EnvSpec:
        spec = self.problem.spec
        extra = heads.label_head(self.problem.label.spec).embed_dim
        return replace(spec, obs_dim=spec.obs_dim + extra, obs_range=())

    def sample_task(self, key: Key) -> Task:
        return self.problem.env.sample_task(key)

    def task_set(self, split: str, num: int | None = None) -> Task:
        return self.problem.env.task_set(split, num)

    def describe(self, task: Task) -> Array:
        return self.problem.env.describe(task)

    def at_test(self) -> _Revealed:
        return _Revealed(self.problem.at_test())

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        state_key, label_key = jax.random.split(key)
        obs, state = self.problem.env.reset(state_key, task)
        return self.problem.reveal(label_key, obs, state, task), state

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        state_key, label_key = jax.random.split(key)
        obs, state, reward, terminated = self.problem.env.step(state_key, state, action, task)
        return self.problem.reveal(label_key, obs, state, task), state, reward, terminated
