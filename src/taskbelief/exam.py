"""The evaluation of a run: on which tasks, what is measured there, and the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import card, evaluation, registry, rollout, types
from taskbelief.card import Card
from taskbelief.evaluation import Evaluation, References
from taskbelief.trainer import Trainer
from taskbelief.types import Array, Params, Task

SPLITS = ("train", "holdout")


class Exam(NamedTuple):
    tasks: Task  # [K, ...]: of the training set, then of the hold-out set
    train_tasks: int  # how many of them are of the training set
    # params -> (Evaluation of `tasks`, KL [T, K] or None)
    evaluate: Callable[[Params], tuple[Evaluation, Array | None]]

    def of(self, split: str) -> Task:
        """Returns the tasks of the set "train" or "holdout"."""
        at = self.train_tasks
        cut = slice(0, at) if split == "train" else slice(at, None)
        return jax.tree.map(lambda leaf: leaf[cut], self.tasks)


def make(trainer: Trainer, num_tasks: int, belief_tasks: int) -> Exam:
    """Returns the evaluation on at most `num_tasks` tasks of each set. On at most `belief_tasks` of
    the hold-out set (0: none) the belief is compared with the exact posterior."""
    env = trainer.problem.env
    sets = [_first(env.task_set(split), num_tasks) for split in SPLITS]
    tasks = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *sets)
    compare = trainer.compare if belief_tasks else None
    compared = _first(sets[1], belief_tasks)

    def evaluate(params: Params) -> tuple[Evaluation, Array | None]:
        """Evaluates with the same key each time, so that differences come from the parameters."""
        play_key, compare_key = jax.random.split(jax.random.key(0))
        divergence = None if compare is None else compare(params, params, compared, compare_key)
        return trainer.evaluate(params, tasks, play_key), divergence

    return Exam(tasks, rollout.batch_size(sets[0]), evaluate)


def cards(
    trainer: Trainer,
    exam: Exam,
    references: Mapping[str, References | None],
    evaluated: tuple[Evaluation, Array | None],
) -> dict[str, Card]:
    """Returns a card for each task set, except for sets where the agent is not defined."""
    played, divergence = evaluated
    found = {}
    ends = (0, exam.train_tasks, len(played.returns))
    for split, start, end in zip(SPLITS, ends[:-1], ends[1:], strict=True):
        of_split = evaluation.part(played, start, end)
        # labels that name training tasks say nothing about others
        if trainer.problem.label.names_training_task and split == "holdout":
            if trainer.agent.needs.revealed:
                continue
            of_split = of_split._replace(label_nll=None)
        kl = divergence if split == "holdout" else None
        found[split] = of(trainer, split, of_split, references[split], kl)
    return found


def of(
    trainer: Trainer,
    tasks: str,
    played: Evaluation,
    references: References | None,
    kl: Array | None,
) -> Card:
    """Returns the card of one set of tasks."""
    env = types.at_test(trainer.problem.env)
    return card.of(
        played,
        policy="this agent",
        env=registry.name_of(env),
        tasks=tasks,
        references=references,
        episodes=card.equal_episodes(env.spec),
        kl=None if kl is None else np.asarray(kl),
    )


def scores(
    trainer: Trainer,
    exam: Exam,
    references: Mapping[str, References | None],
    evaluated: tuple[Evaluation, Array | None],
) -> dict[str, float]:
    """Returns the numbers of both task sets, named as in metrics.csv."""
    found = cards(trainer, exam, references, evaluated)
    row = {
        f"eval/{split}/{name}": value
        for split, one in found.items()
        for name, value in one.metrics().items()
    }
    if "eval/train/score" in row and "eval/holdout/score" in row:
        row["eval/gap"] = row["eval/train/score"] - row["eval/holdout/score"]
    return row


def _first(tasks: Task, num: int) -> Task:
    return jax.tree.map(lambda leaf: leaf[:num], tasks)
