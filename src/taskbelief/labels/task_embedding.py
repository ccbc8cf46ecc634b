"""The embedding of the training task that a trained oracle has learnt (Humplik et al. 2019)."""

from __future__ import annotations

import numpy as np

from taskbelief import labels
from taskbelief.labels import Expert, LabelKind, _training_tasks
from taskbelief.types import Env, Reals


def make(env: Env, expert: Expert | None = None) -> LabelKind:
    """Returns the label for `env`.

    Raises:
      ValueError: there is no expert, or one without embeddings.
    """
    if expert is None or expert.table is None:
        raise ValueError(
            "label task_embedding needs an expert that has embeddings:"
            " an oracle trained with condition=embedding"
        )
    _, index = _training_tasks.number(env)
    table = expert.table
    family = Reals(
        table.shape[1],
        tuple(np.mean(table, axis=0).tolist()),
        tuple((np.std(table, axis=0) + 1e-3).tolist()),
    )
    return labels.of_the_moment(
        family, lambda key, obs, state, task: table[index(task)], names_training_task=True
    )
