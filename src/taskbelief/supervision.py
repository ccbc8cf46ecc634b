"""The teacher: labels h_t that exist at training only, and the one way to reveal a task."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from taskbelief.networks import heads
from taskbelief.rollout import Teach
from taskbelief.types import Array, Categories, Continuous, Env, EnvSpec, Key, LabelSpec
from taskbelief.types import Reals, State, Task

KINDS = ("description", "expert_action", "expert_goal")


def teacher(env: Env, kind: str) -> tuple[LabelSpec, Teach]:
    """The family of the labels, and the function (key, state, task) -> h that gives them.

    "description": h = w. "expert_action": what the scripted expert would do on this task.
    "expert_goal": what it heads for, its action before control (numpad: the next pad) [ours].

    Raises:
      ValueError: unknown kind.
    """
    spec = env.spec
    if kind == "description":
        return spec.task, lambda key, state, task: env.describe(task)
    if kind == "expert_action":
        if isinstance(spec.action, Continuous):
            num = spec.action.num
            return Reals(num, (0.0,) * num, (1.0,) * num), env.expert
        return (
            Categories(1, spec.action.num),
            lambda key, state, task: env.expert(key, state, task)[None],
        )
    if kind == "expert_goal":
        return spec.goal, lambda key, state, task: env.goal(state, task)
    raise ValueError(f"unknown label {kind!r}: choose from {', '.join(KINDS)}")


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
        h = teacher(self.env, self.kind)[1](key, state, task)
        return jnp.concatenate([obs, self._head.embed(h, obs)])

    def __getattr__(self, name: str):
        return getattr(self.env, name)


def reveal_task(env: Env, kind: str = "description") -> Env:
    """The environment with the label h in its observations: for oracles, and nothing else."""
    return _Revealed(env, kind)
