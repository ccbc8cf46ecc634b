"""The action of an expert: of a trained oracle, or without one of the scripted expert."""

from __future__ import annotations

import jax.numpy as jnp

from taskbelief import labels
from taskbelief.labels import Expert, LabelKind
from taskbelief.types import (
    AgentInput,
    Array,
    Carry,
    Categories,
    Continuous,
    Env,
    HasExpert,
    Key,
    LabelSpec,
    Reals,
    State,
    Task,
    Teacher,
)


def make(env: Env, expert: Expert | None = None) -> LabelKind:
    """Returns the label for `env`.

    Raises:
      ValueError: there is neither a trained nor a scripted expert.
    """
    action = env.spec.action
    if isinstance(action, Continuous):
        shape = (action.num,)
        family: LabelSpec = Reals(action.num, (0.0,) * action.num, (1.0,) * action.num)
    else:
        shape, family = (1,), Categories(1, action.num)

    if expert is not None:
        teacher = _oracle_teacher(expert, shape)
        return LabelKind(family, teacher=teacher, examiner=teacher, momentary=None)
    if not isinstance(env, HasExpert):
        raise ValueError(
            "label expert_action: this environment has no scripted expert; take a trained"
            " oracle (--expert), or the label description"
        )
    return labels.of_the_moment(
        family, lambda key, obs, state, task: jnp.reshape(env.expert(key, state, task), shape)
    )


def _oracle_teacher(expert: Expert, shape: tuple[int]) -> Teacher:
    """Returns the teacher that gives the actions of a trained oracle along the history."""

    def advise(
        carry: Carry, key: Key, inputs: AgentInput, state: State, task: Task
    ) -> tuple[Carry, Array]:
        carry, action = expert.act(carry, key, inputs, state, task)
        return carry, action.reshape(shape)

    return Teacher(advise, lambda obs: expert.initial_carry)
