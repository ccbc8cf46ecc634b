"""Trainers from configs, and parameters from the files of runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from taskbelief import problem, registry, trainer, types
from taskbelief.labels import Expert
from taskbelief.runs import Failed, Refused, checkpoint, config
from taskbelief.runs.config import RunConfig
from taskbelief.trainer import Length, Trainer
from taskbelief.types import Params

Warn = Callable[[str], None]


class Parts(NamedTuple):
    trainer: Trainer
    length: Length  # of the whole run


def build(chosen: RunConfig, mesh: Mesh | None = None, warn: Warn = warnings.warn) -> Parts:
    """Returns the trainer of `chosen`; `mesh`: the devices among which a seed is divided.

    Raises:
      ValueError: parts that do not fit together, in one sentence.
      Failed: the run of `chosen.expert` has no good checkpoint.
    """
    posed = problem.make(
        chosen.env, config.label_in_use(chosen), _expert(chosen, warn), dense=chosen.dense
    )
    length = trainer.length(posed, chosen.learner.needs, chosen.train, chosen.steps)
    agent = registry.find("agents", chosen.agent_name).make(posed, chosen.agent)
    learner = registry.find("learners", chosen.learner_name).make(
        posed, agent, chosen.learner, length.updates
    )
    return Parts(trainer.make(posed, agent, learner, chosen.train, mesh), length)


def _expert(chosen: RunConfig, warn: Warn) -> Expert | None:
    """Returns the trained oracle of the run `chosen.expert`, from its newest good checkpoint."""
    if not chosen.expert:
        return None
    run = Path(chosen.expert)
    of = config.load(run)
    if of.agent_name != "oracle":
        raise Refused(f"--expert {run}: an oracle's run is wanted, this is {of.agent_name}'s")
    if of.env_name != chosen.env_name or types.at_test(of.env) != types.at_test(chosen.env):
        raise Refused(f"--expert {run}: was trained on another environment: {of.env}")
    made = build(of, warn=warn).trainer
    return trainer.expert(made, params(run, of, made, of.seed, warn))


def params(
    run: Path, chosen: RunConfig, made: Trainer, seed: int, warn: Warn = warnings.warn
) -> Params:
    """Returns the parameters of one seed of a run, from its newest good checkpoint.

    Raises:
      Refused: the run has no such seed.
      Failed: there is no good checkpoint of this version.
    """
    number = seed - chosen.seed
    if not 0 <= number < chosen.num_seeds:
        raise Refused(f"{run} has no seed {seed}")
    key = jax.eval_shape(jax.random.key, 0)
    like = jax.eval_shape(made.learner.init, key).params
    if chosen.num_seeds > 1:
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((chosen.num_seeds, *leaf.shape), leaf.dtype), like
        )
    found = checkpoint.newest_good(run, like, within="0.learner.params.", warn=warn)
    if found is None:
        raise Failed(f"{run} has no checkpoint yet")
    if chosen.num_seeds == 1:
        return found.state
    return jax.tree.map(lambda leaf: leaf[number], found.state)
