"""What a trained agent is asked at each evaluation, and the scores that come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import evaluation, explorer, rollout
from taskbelief.evaluation import Evaluation, References
from taskbelief.rollout import Scripted
from taskbelief.trainer import Trainer
from taskbelief.types import Array, Env, Key, Params, Task

SPLITS = ("train", "holdout")


class Exam(NamedTuple):
    tasks: Task  # [K, ...]: of the training set, then of the hold-out set
    train_tasks: int  # how many of them are of the training set
    # params -> (Evaluation of `tasks`, KL [T, K] or None)
    evaluate: Callable[[Params], tuple[Evaluation, Array | None]]

    def of(self, split: str) -> Task:
        """The tasks of the set "train" or "holdout"."""
        at = self.train_tasks
        cut = slice(0, at) if split == "train" else slice(at, None)
        return jax.tree.map(lambda leaf: leaf[cut], self.tasks)


def make(trainer: Trainer, num_tasks: int, belief_tasks: int) -> Exam:
    """At most `num_tasks` tasks of each set; on at most `belief_tasks` of the hold-out set, 0 for
    none, the belief is compared with the exact posterior."""
    env = trainer.problem.env
    sets = [_first(env.task_set(split), num_tasks) for split in SPLITS]
    tasks = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *sets)
    compare = trainer.compare if belief_tasks else None
    compared = _first(sets[1], belief_tasks)

    def evaluate(params: Params) -> tuple[Evaluation, Array | None]:
        """Always with the same randomness, so that differences count."""
        play_key, compare_key = jax.random.split(jax.random.key(0))
        divergence = None if compare is None else compare(params, params, compared, compare_key)
        return trainer.evaluate(params, tasks, play_key), divergence

    return Exam(tasks, rollout.batch_size(sets[0]), evaluate)


def mean_returns(env: Env, tasks: Task) -> dict[str, float]:
    """Of the policies that scores refer to, as far as `env` has them, on `tasks`, by name."""

    def mean(policy: Scripted) -> float:
        @jax.jit
        def returns(tasks: Task, key: Key) -> Array:
            return rollout.collect_scripted(env, tasks, key, policy).reward.sum(axis=0)

        return float(np.mean(np.asarray(returns(tasks, jax.random.key(0)), np.float64)))

    found = explorer.policies(env)
    wanted = ("random", "expert", "explorer")
    return {name: mean(found[name]) for name in wanted if name in found}


def references(means: dict[str, float]) -> References | None:
    """What to measure an agent against, from mean returns by name; None where there is no expert,
    or one that earns no more than chance: returns then stand for scores."""
    if "expert" not in means or means["expert"] <= means["random"]:
        return None
    return References(means["random"], means["expert"], means.get("explorer"))


def scores(
    trainer: Trainer,
    exam: Exam,
    references: dict[str, References | None],
    evaluated: tuple[Evaluation, Array | None],
) -> dict[str, float]:
    """Of both task sets, named as in metrics.csv."""
    played, divergence = evaluated
    row: dict[str, float] = {}
    ends = (0, exam.train_tasks, len(played.returns))
    for split, start, end in zip(SPLITS, ends[:-1], ends[1:], strict=True):
        of_split = evaluation.part(played, start, end)
        # labels that name training tasks say nothing about others
        if trainer.problem.label.names_training_task and split == "holdout":
            if trainer.agent.needs.revealed:
                continue
            of_split = of_split._replace(label_nll=None)
        found = evaluation.scores(of_split, references[split])
        row |= {f"eval/{split}/{name}": value for name, value in found.items()}
    if divergence is not None:
        kl = np.mean(np.asarray(divergence), axis=1)
        row["eval/holdout/belief_kl"] = float(np.mean(kl))
        for number, quarter in enumerate(np.array_split(kl, 4), start=1):
            row[f"eval/holdout/belief_kl_quarter_{number}"] = float(np.mean(quarter))
    if "eval/train/score" in row and "eval/holdout/score" in row:
        row["eval/gap"] = row["eval/train/score"] - row["eval/holdout/score"]
    return row


def _first(tasks: Task, num: int) -> Task:
    return jax.tree.map(lambda leaf: leaf[:num], tasks)
