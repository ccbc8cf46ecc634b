"""The functions of a run from its config, placed on devices."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from experiments import footprint, placement, stop
from experiments.placement import Placed, Placement
from taskbelief import exam, parallel, trainer, training, types
from taskbelief.exam import Exam
from taskbelief.runs import config, parts
from taskbelief.runs.config import RunConfig
from taskbelief.trainer import Length, Trainer
from taskbelief.types import Env


class Assembly(NamedTuple):
    trainer: Trainer
    length: Length  # of the whole run
    where: Placement
    placed: Placed
    exam: Exam
    evaluate: Any  # `exam.evaluate` for all seeds, jitted
    label: str  # name of the label in use

    @property
    def env(self) -> Env:
        """The environment at test with the task hidden, in which references are measured."""
        return types.at_test(self.trainer.problem.env)

    @property
    def iteration_updates(self) -> int:
        """Number of optimiser steps in each iteration."""
        learner = self.trainer.learner
        return self.length.updates // self.length.iterations * learner.steps


def assemble(chosen: RunConfig) -> Assembly:
    """Returns the functions, not compiled yet. Ends the program where parts do not fit together."""
    with stop.sentences():
        return _assemble(chosen)


def _assemble(chosen: RunConfig) -> Assembly:
    seeds = tuple(range(chosen.seed, chosen.seed + chosen.num_seeds))
    where = placement.place(seeds, chosen.train.shards)
    made, length = parts.build(chosen, where.within, stop.warn)
    sizes = _filling(chosen, placement.batch_bytes(made, where))
    if sizes != chosen.train:
        made = trainer.make(made.problem, made.agent, made.learner, sizes, where.within)
    asked = exam.make(made, chosen.evaluation_tasks, chosen.belief_tasks)
    replicated = parallel.replicated(where.mesh)
    return Assembly(
        made,
        length,
        where,
        placement.placed(made, where),
        asked,
        jax.jit(where.per_seed(asked.evaluate), out_shardings=replicated),
        config.label_in_use(chosen),
    )


def _filling(chosen: RunConfig, batch: int) -> training.Config:
    """Returns sizes with as many rows as fit into --replay-memory; `batch`: bytes of an iteration's
    meta-episodes."""
    sizes, allowed = chosen.train, footprint.parse(chosen.replay_memory)
    if allowed is None:
        return sizes
    iterations = allowed // batch
    if iterations < sizes.warmup:
        raise ValueError(
            f"--replay-memory {chosen.replay_memory}: the {sizes.envs} meta-episodes of one"
            f" iteration take {footprint.amount(batch)}, and {sizes.warmup} iterations have to fit"
        )
    return dataclasses.replace(sizes, replay_rows=min(iterations, 2**30 // sizes.envs) * sizes.envs)
