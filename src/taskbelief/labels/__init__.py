"""One label, one file: what a belief learns to predict, and what exists at training only.

Each has `make(env, expert=None) -> LabelKind`; it raises ValueError where the environment or
the expert lacks what the label needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from taskbelief.posterior import Belief, Posterior
from taskbelief.types import (
    AgentInput,
    Array,
    Carry,
    Key,
    LabelSpec,
    Momentary,
    State,
    Task,
    Teacher,
    momentary_teacher,
)

# labels [T, ...] -> log b(h) [T], of a belief as it goes along one meta-episode
Learned = Callable[[Array], Array]
# (exact posterior, its beliefs [T, ...], obs [T, D], learned belief, key)
# -> KL(exact || learned) in nats, [T]
Divergence = Callable[[Posterior, Belief, Array, Learned, Key], Array]
# (exact posterior, its beliefs [T, ...], obs [T, D]) -> E[h] [T, ...], as `LabelHead.mean` has it
Expected = Callable[[Posterior, Belief, Array], Array]


class Exact(NamedTuple):
    """What the exact posterior says of a label."""

    divergence: Divergence
    expected: Expected


class LabelKind(NamedTuple):
    """A label of one environment."""

    spec: LabelSpec  # the family that a head predicts
    teacher: Teacher  # produces the labels while training
    examiner: Teacher  # produces the true task's labels at evaluation
    # the true task's label, where it depends on nothing but the moment: an oracle can be told it
    momentary: Momentary | None
    names_training_task: bool = False  # means nothing on any other task
    exact: Exact | None = None  # None: there is nothing exact to compare a belief with


class Expert(NamedTuple):
    """A trained oracle, to learn from."""

    initial_carry: Carry  # of one meta-episode: [1, ...]
    # its mode: (carry, key, inputs without the label, state, task) -> (carry, action)
    act: Callable[[Carry, Key, AgentInput, State, Task], tuple[Carry, Array]]
    table: Array | None  # [K, D]: its embeddings of the training tasks


def of_the_moment(
    spec: LabelSpec,
    say: Momentary,
    *,
    names_training_task: bool = False,
    exact: Exact | None = None,
) -> LabelKind:
    """A label that depends on nothing but the moment, in training as at evaluation."""
    always = momentary_teacher(say)
    return LabelKind(spec, always, always, say, names_training_task, exact)
