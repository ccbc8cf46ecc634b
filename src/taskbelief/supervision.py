"""The teacher: labels h_t that exist at training only, and the one way to reveal a task."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from taskbelief import posterior
from taskbelief.networks import heads
from taskbelief.rollout import Teacher
from taskbelief.types import (
    Array,
    Categories,
    Continuous,
    Env,
    EnvSpec,
    Key,
    LabelSpec,
    Reals,
    State,
    Task,
)

KINDS = ("description", "expert_action", "expert_goal", "posterior_goal")


def teacher(env: Env, kind: str) -> tuple[LabelSpec, Teacher]:
    """The family of the labels, and who says them.

    "description": h = w. "expert_action": what the scripted expert would do on this task.
    "expert_goal": what it heads for, its action before control (numpad: the next pad) [ours].
    "posterior_goal": what it would head for on a task drawn from the exact posterior [ours].

    All but the last belong to the task being played. Where tasks are drawn from p(w), a task
    drawn from p(w | history) in its place leaves E[-log b(h | history)] the same; where they
    are drawn from a finite training set, the belief then learns p(w)'s posterior and not that
    of the set, whose last consequence is that no task outside it exists.

    Raises:
      ValueError: unknown kind.
    """
    spec = env.spec
    if kind == "description":
        return spec.task, Teacher(lambda _, key, state, task: env.describe(task))
    if kind == "expert_action":
        if isinstance(spec.action, Continuous):
            num = spec.action.num
            family: LabelSpec = Reals(num, (0.0,) * num, (1.0,) * num)
            return family, Teacher(lambda _, key, state, task: env.expert(key, state, task))
        family = Categories(1, spec.action.num)
        return family, Teacher(lambda _, key, state, task: env.expert(key, state, task)[None])
    if kind == "expert_goal":
        return spec.goal, Teacher(lambda _, key, state, task: env.goal(state, task))
    if kind == "posterior_goal":
        exact = posterior.make(env)

        def goal(belief: posterior.Belief, key: Key, state: State, task: Task) -> Array:
            del task
            return env.goal(state, exact.sample(belief, key))

        return spec.goal, Teacher(goal, exact.init, exact.update)
    raise ValueError(f"unknown label {kind!r}: choose from {', '.join(KINDS)}")


def examiner(env: Env, kind: str) -> Teacher:
    """Whose labels a belief trained on `kind` is evaluated with: the true task's."""
    return teacher(env, "expert_goal" if kind == "posterior_goal" else kind)[1]


@dataclass(frozen=True)
class _Revealed:
    """`env` with the label, as networks read it, at the end of each observation."""

    env: Env
    kind: str

    @property
    def spec(self) -> EnvSpec:
        spec = self.env.spec
        return replace(spec, obs_dim=spec.obs_dim + self._head.embed_dim)

    @property
    def _head(self) -> heads.LabelHead:
        return heads.label_head(teacher(self.env, self.kind)[0])

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        state_key, label_key = jax.random.split(key)
        obs, state = self.env.reset(state_key, task)
        return self._reveal(label_key, obs, state, task), state

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        state_key, label_key = jax.random.split(key)
        obs, state, reward, terminated = self.env.step(state_key, state, action, task)
        return self._reveal(label_key, obs, state, task), state, reward, terminated

    def at_test(self) -> _Revealed:
        return replace(self, env=self.env.at_test())

    def _reveal(self, key: Key, obs: Array, state: State, task: Task) -> Array:
        h = examiner(self.env, self.kind).label((), key, state, task)
        return jnp.concatenate([obs, self._head.embed(h, obs)])

    def __getattr__(self, name: str):
        return getattr(self.env, name)


def reveal_task(env: Env, kind: str = "description") -> Env:
    """The environment with the label h in its observations: for oracles, and nothing else."""
    return _Revealed(env, kind)
