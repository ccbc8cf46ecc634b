"""What a trained agent is asked at each evaluation, and the scores that come of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import references
from experiments.placement import Placement
from taskbelief import evaluation, parallel, rollout
from taskbelief.evaluation import Evaluation, References
from taskbelief.trainer import Trainer
from taskbelief.types import Array, Env, Params, Task

SPLITS = ("train", "holdout")


class Exam(NamedTuple):
    tasks: Task  # [K, ...]: of the training set, then of the hold-out set
    train_tasks: int  # how many of them are of the training set
    evaluate: Any  # (params) -> (Evaluation of `tasks`, KL [T, K] or None), jitted, for all seeds

    @property
    def holdout(self) -> Task:
        """[K, ...]"""
        return jax.tree.map(lambda leaf: leaf[self.train_tasks :], self.tasks)


def make(trainer: Trainer, where: Placement, num_tasks: int, belief_tasks: int) -> Exam:
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

    whole = jax.jit(where.per_seed(evaluate), out_shardings=parallel.everywhere(where.mesh))
    return Exam(tasks, rollout.batch_size(sets[0]), whole)


def references_of(env: Env, run: Path) -> dict[str, References | None]:
    """For each task set, what to measure an agent against; None where `env` has no expert, or
    one that earns no more than chance.

    Measured once for a run and kept in its references.json.
    """
    path = run / "references.json"
    if path.exists():
        measured = json.loads(path.read_text())
    else:
        measured = references.references(env)
        if jax.process_index() == 0:
            new = path.with_suffix(".new")
            new.write_text(json.dumps(measured, indent=1, default=str) + "\n")
            os.replace(new, path)

    def of(split: str) -> References | None:
        mean = {name: entry["mean"] for name, entry in measured[split].items()}
        if "expert" not in mean or mean["expert"] <= mean["random"]:
            return None
        return References(mean["random"], mean["expert"], mean.get("explorer"))

    return {split: of(split) for split in SPLITS}


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
