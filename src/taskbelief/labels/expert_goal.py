"""The goal of the scripted expert at each step (numpad: the next pad) [ours]."""

from __future__ import annotations

from taskbelief import labels
from taskbelief.labels import Expert, LabelKind, _exact
from taskbelief.types import Env, HasGoal


def make(env: Env, expert: Expert | None = None) -> LabelKind:
    """Returns the label for `env`.

    Raises:
      ValueError: the environment defines no goal.
    """
    del expert
    if not isinstance(env, HasGoal):
        raise ValueError(
            "label expert_goal: this environment defines no goal of an expert (see"
            " types.HasGoal); take the label description"
        )
    return labels.of_the_moment(
        env.spec.goal,
        lambda key, obs, state, task: env.goal(obs, task),
        exact=_exact.of_goals(env),
    )
