"""The index of the training task."""

from __future__ import annotations

from taskbelief import labels
from taskbelief.labels import Expert, LabelKind, _training_tasks
from taskbelief.types import Categories, Env


def make(env: Env, expert: Expert | None = None) -> LabelKind:
    del expert
    num, index = _training_tasks.number(env)
    return labels.of_the_moment(
        Categories(1, num),
        lambda key, obs, state, task: index(task)[None],
        names_training_task=True,
    )
