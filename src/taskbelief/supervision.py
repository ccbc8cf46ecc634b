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
    """`env` with the task description, as networks read it, at the end of each observation."""

    env: Env

    @property
    def spec(self) -> EnvSpec:
        spec = self.env.spec
        return replace(spec, obs_dim=spec.obs_dim + heads.label_head(spec.task).embed_dim)

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        obs, state = self.env.reset(key, task)
        return self._reveal(obs, task), state

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        obs, state, reward, terminated = self.env.step(key, state, action, task)
        return self._reveal(obs, task), state, reward, terminated

    def at_test(self) -> _Revealed:
        return _Revealed(self.env.at_test())

    def _reveal(self, obs: Array, task: Task) -> Array:
        head = heads.label_head(self.env.spec.task)
        return jnp.concatenate([obs, head.embed(self.env.describe(task))])

    def __getattr__(self, name: str):
        return getattr(self.env, name)


def reveal_task(env: Env) -> Env:
    """The environment with h in its observations: for oracles, and nothing else."""
    return _Revealed(env)
