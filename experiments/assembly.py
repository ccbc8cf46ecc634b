"""From a config to the parts that train and evaluate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from experiments import checkpoint, exam, memory, placement, stop
from experiments.config import RunConfig
from experiments.config import load as config_of
from experiments.exam import Exam
from experiments.placement import Placed, Placement
from taskbelief import problem, registry, train, trainer, types
from taskbelief.labels import Expert
from taskbelief.trainer import Length, Trainer
from taskbelief.types import Env


class Assembly(NamedTuple):
    trainer: Trainer
    length: Length  # of the whole run
    where: Placement
    placed: Placed
    exam: Exam
    label: str  # the kind of label in use

    @property
    def env(self) -> Env:
        """As at test, the task hidden: what references are measured on."""
        return types.at_test(self.trainer.problem.env)

    @property
    def iteration_updates(self) -> int:
        """Steps of the optimiser in each iteration."""
        learner = self.trainer.learner
        return self.length.updates // self.length.iterations * learner.steps


def assemble(config: RunConfig) -> Assembly:
    """Nothing is compiled yet. Ends the program where parts do not fit together."""
    try:
        return _assemble(config)
    except ValueError as error:
        stop.wrong_usage(str(error))


def _assemble(config: RunConfig) -> Assembly:
    seeds = tuple(range(config.seed, config.seed + config.num_seeds))
    where = placement.place(seeds, config.train.shards)
    label = config.agent.needs.only_label or config.label
    posed = problem.make(config.env, label, _expert(config), dense=config.dense)
    length = trainer.length(posed, config.learner.needs, config.train, config.steps)
    agent = registry.find("agents", config.agent_name).make(posed, config.agent)
    learner = registry.find("learners", config.learner_name).make(
        posed, agent, config.learner, length.updates
    )
    trains = trainer.make(posed, agent, learner, config.train, where.within)
    sizes = _filling(config, placement.batch_bytes(trains, where))
    if sizes != config.train:
        trains = trainer.make(posed, agent, learner, sizes, where.within)
    return Assembly(
        trains,
        length,
        where,
        placement.placed(trains, where),
        exam.make(trains, where, config.evaluation_tasks, config.belief_tasks),
        label,
    )


def _filling(config: RunConfig, batch: int) -> train.Config:
    """With as many rows as fit into config.replay_memory; `batch`: bytes of an iteration's."""
    sizes, allowed = config.train, memory.parse(config.replay_memory)
    if allowed is None:
        return sizes
    iterations = allowed // batch
    if iterations < sizes.warmup:
        raise ValueError(
            f"--replay-memory {config.replay_memory}: the {sizes.envs} meta-episodes of one"
            f" iteration take {memory.amount(batch)}, and {sizes.warmup} iterations have to fit"
        )
    return dataclasses.replace(sizes, replay_rows=min(iterations, 2**30 // sizes.envs) * sizes.envs)


def _expert(config: RunConfig) -> Expert | None:
    """The trained oracle of the run `config.expert`, from its newest good checkpoint."""
    if not config.expert:
        return None
    run = Path(config.expert)
    of = config_of(run)
    if of.agent_name != "oracle":
        raise ValueError(f"--expert {run}: an oracle's run is wanted, this is {of.agent_name}'s")
    if of.env_name != config.env_name or types.at_test(of.env) != types.at_test(config.env):
        raise ValueError(f"--expert {run}: was trained on another environment: {of.env}")
    parts = _assemble(of)
    found = checkpoint.newest_good(run, placement.checkpointed(parts.placed, parts.where))
    if found is None:
        raise ValueError(f"--expert {run}: has no good checkpoint")
    params = parts.where.of_seed(found.state[0].learner.params, 0)
    return trainer.expert(parts.trainer, params)
