"""What an expert would do here: a trained oracle, or without one the scripted expert."""

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
    """The label for `env`.

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
        pupil = _pupil_of(expert, shape)
        return LabelKind(family, teacher=pupil, examiner=pupil, momentary=None)
    if not isinstance(env, HasExpert):
        raise ValueError(
            "label expert_action: this environment has no scripted expert; take a trained"
            " oracle (--expert), or the label description"
        )
    return labels.of_the_moment(
        family, lambda key, obs, state, task: jnp.reshape(env.expert(key, state, task), shape)
    )


def _pupil_of(expert: Expert, shape: tuple[int]) -> Teacher:
    """What the trained oracle would do, had it acted so far."""

    def advise(
        carry: Carry, key: Key, inputs: AgentInput, state: State, task: Task
    ) -> tuple[Carry, Array]:
        carry, action = expert.act(carry, key, inputs, state, task)
        return carry, action.reshape(shape)

    return Teacher(advise, lambda obs: expert.initial_carry)
