"""Labels, one per file: targets that a belief learns to predict; they exist in training only.

Each file has `make(env, expert=None) -> LabelKind`; it raises ValueError where the environment or
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

# labels [T, ...] -> log b(h) [T], of the beliefs along one meta-episode
Learned = Callable[[Array], Array]
# (exact posterior, its beliefs [T, ...], obs [T, D], learned belief, key)
# -> KL(exact || learned) in nats, [T]
Divergence = Callable[[Posterior, Belief, Array, Learned, Key], Array]
# (exact posterior, its beliefs [T, ...], obs [T, D]) -> E[h] [T, ...], in the form of
# `LabelHead.mean`
Expected = Callable[[Posterior, Belief, Array], Array]


class Exact(NamedTuple):
    """The exact distribution of a label given the history."""

    divergence: Divergence
    expected: Expected


class LabelKind(NamedTuple):
    """A label of one environment."""

    spec: LabelSpec  # the family that a head predicts
    teacher: Teacher  # produces the labels while training
    examiner: Teacher  # produces the true task's labels at evaluation
    # the true task's label as a function of the current step, which an oracle can observe;
    # None: the label depends on earlier steps
    momentary: Momentary | None
    names_training_task: bool = False  # has no meaning on any other task
    exact: Exact | None = None  # None: it is not known exactly


class Expert(NamedTuple):
    """A trained oracle, whose actions or embeddings serve as labels."""

    initial_carry: Carry  # of one meta-episode: [1, ...]
    # its mode: (carry, key, inputs without the label, state, task) -> (carry, action)
    act: Callable[[Carry, Key, AgentInput, State, Task], tuple[Carry, Array]]
    table: Array | None  # [K, D]: its embeddings of the training tasks


def of_the_moment(
    spec: LabelSpec,
    label: Momentary,
    *,
    names_training_task: bool = False,
    exact: Exact | None = None,
) -> LabelKind:
    """Returns a label that does not depend on earlier steps, in training and at evaluation."""
    teacher = momentary_teacher(label)
    return LabelKind(spec, teacher, teacher, label, names_training_task, exact)
