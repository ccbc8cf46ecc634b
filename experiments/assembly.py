"""From a config to the functions that train and evaluate: the one place where parts meet."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from experiments import checkpoint, devices, memory, references, stop
from experiments.config import RunConfig
from experiments.config import load as config_of
from experiments.memory import Needs
from taskbelief import (
    comparison,
    evaluation,
    parallel,
    posterior,
    registry,
    rollout,
    supervision,
    train,
)
from taskbelief.evaluation import Evaluation, References
from taskbelief.supervision import Expert
from taskbelief.train import TrainState
from taskbelief.types import Agent, Array, Env, Learner, Metrics, Params, Task

SPLITS = ("train", "holdout")


class Assembly(NamedTuple):
    env: Env  # as at test, the task hidden: what references are measured on
    played: Env  # the same as the agent sees it: an oracle is told the label
    agent: Agent
    learner: Learner
    init: Any  # () -> TrainState; jitted, so that it is traced once
    step: Any  # (TrainState) -> (TrainState, metrics), jitted
    collect: Any  # (params, key) -> Trajectory: what a seed plays in an iteration, jitted
    like: TrainState  # its shapes and types, and where each leaf lives
    tasks: Task  # [K, ...]: of the training set, then of the hold-out set
    train_tasks: int  # how many of them are of the training set
    evaluate: Any  # (params) -> (Evaluation of `tasks`, KL [T, K] or None), jitted
    iterations: int  # of the whole run
    label: str  # the kind of label in use
    told_label: bool  # the agent sees it
    warmup_steps: int  # agent steps before the first iteration
    iteration_steps: int  # agent steps in each iteration
    iteration_updates: int  # steps of the optimiser in each iteration
    mesh: Mesh  # the devices that take part
    of_seeds: NamedSharding  # of one number for each seed
    seeds: tuple[int, ...]  # trained side by side; with several, they are the first axis of states
    needs: Needs  # memory on each device


def assemble(config: RunConfig) -> Assembly:
    """Nothing is compiled yet. Ends the program where parts do not fit together."""
    try:
        return _assemble(config)
    except ValueError as error:
        stop.wrong_usage(str(error))


def _assemble(config: RunConfig) -> Assembly:
    env = config.env
    learner_module = registry.find("learners", config.learner_name)
    on_policy = getattr(learner_module, "ON_POLICY", False)
    warmup = 0 if on_policy else config.train.warmup
    warmup_steps = warmup * config.train.envs * env.spec.task_steps
    mesh = parallel.mesh(jax.devices(), config.train.shards)
    if jax.process_count() > 1 and mesh.size < jax.device_count():
        raise ValueError(
            f"--train.shards {config.train.shards}: must be a multiple of the {jax.device_count()}"
            " devices of all processes"
        )
    seeds = tuple(range(config.seed, config.seed + config.num_seeds))
    # enough seeds: each device trains some of its own, and nothing crosses
    apart = len(seeds) > 1 and len(seeds) % mesh.size == 0
    within = None if apart else mesh
    iteration_steps = config.train.envs * env.spec.task_steps
    iterations = max(1, -(-(config.steps - warmup_steps) // iteration_steps))

    label = told(config)
    expert = _expert(config)
    label_spec, teach = supervision.teacher(env, label, expert)
    agent_module = registry.find("agents", config.agent_name)
    revealed = getattr(agent_module, "REVEALED", False)
    played = supervision.reveal_task(env, label) if revealed else env
    given = {}
    if getattr(agent_module, "NEEDS_POSTERIOR", False):
        given["exact"] = posterior.make(env, config.agent.hypotheses)
    agent = agent_module.make(played.spec, label_spec, config.agent, **given)
    updates = 1 if on_policy else config.train.updates
    told_critic = supervision.privileged(env)
    learner = learner_module.make(
        played.spec, agent, config.learner, iterations * updates, told_critic
    )
    exam = _exam(config, env, played, agent, learner, label, expert, within)

    taught = teach if agent.belief_log_prob is not None else None
    if config.dense:
        taught = supervision.dense(env, taught)
    if config.learner.privileged:
        taught = supervision.with_task(taught)
    training = train.make(played, agent, learner, taught, config.train, within)
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(learner.init, key).params
    batch = memory.size(jax.eval_shape(training.collect, params, key)) * len(seeds)
    sizes = _filling(config, batch)
    if sizes != config.train:
        training = train.make(played, agent, learner, taught, sizes, within)
    step, evaluate = training.step, exam.evaluate
    if len(seeds) > 1:
        step, evaluate = jax.vmap(step), jax.vmap(evaluate)

    def init() -> TrainState:
        keys = [jax.random.key(seed) for seed in seeds]
        # one after the other: batched QR on several CPU devices at once waits for itself for ever
        return jax.lax.map(training.init, jnp.stack(keys)) if keys[1:] else training.init(keys[0])

    state = jax.eval_shape(init)
    everywhere = parallel.everywhere(mesh)
    of_seeds = parallel.dealt(mesh, 0) if apart else everywhere
    if apart:
        where = jax.tree.map(lambda _: of_seeds, state)
    else:
        where = train.shardings(state, mesh, axis=int(len(seeds) > 1))
    shapes = parallel.placed(state, where)
    read = 0 if on_policy else sizes.batch / sizes.envs  # of what an iteration plays, at a time
    return Assembly(
        env=env.at_test(),
        played=played.at_test(),
        agent=agent,
        learner=learner,
        init=jax.jit(init, out_shardings=where),
        step=jax.jit(step, out_shardings=(where, of_seeds)),
        collect=jax.jit(training.collect),
        like=shapes,
        tasks=exam.tasks,
        train_tasks=exam.train_tasks,
        evaluate=jax.jit(evaluate, out_shardings=everywhere),
        iterations=iterations,
        label=label,
        told_label=revealed,
        warmup_steps=warmup_steps,
        iteration_steps=iteration_steps,
        iteration_updates=updates * learner.steps,
        mesh=mesh,
        of_seeds=of_seeds,
        seeds=seeds,
        needs=Needs(
            memory.size(shapes.replay),
            memory.size(shapes.learner),
            round(batch * (1 + read) / mesh.size),
        ),
    )


class _Exam(NamedTuple):
    tasks: Task
    train_tasks: int
    evaluate: Callable[[Params], tuple[Evaluation, Array | None]]


def _exam(
    config: RunConfig,
    env: Env,
    played: Env,
    agent: Agent,
    learner: Learner,
    label: str,
    expert: Expert | None,
    mesh: Mesh | None,
) -> _Exam:
    """What a trained agent is asked, and how."""
    sets = [_first(env.task_set(split), config.evaluation_tasks) for split in SPLITS]
    tasks = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *sets)
    examiner = supervision.examiner(env, label, expert)
    play = evaluation.make(played.at_test(), agent, learner, examiner, mesh=mesh)
    compare = None
    if config.belief_tasks and played is env:
        compare = comparison.make(env.at_test(), agent, learner, label)
    compared = _first(sets[1], config.belief_tasks)

    def evaluate(params: Params) -> tuple[Evaluation, Array | None]:
        """Always with the same randomness, so that differences count."""
        play_key, compare_key = jax.random.split(jax.random.key(0))
        divergence = None if compare is None else compare(params, params, compared, compare_key)
        return play(params, tasks, play_key), divergence

    return _Exam(tasks, rollout.batch_size(sets[0]), evaluate)


def told(config: RunConfig) -> str:
    """The kind of label that is in use: oracles that learn embeddings are told the index."""
    if getattr(config.agent, "condition", None) == "embedding":
        return "task_index"
    return config.label


def _expert(config: RunConfig) -> Expert | None:
    """The trained oracle of the run `config.expert`, from its newest good checkpoint."""
    if not config.expert:
        return None
    run = Path(config.expert)
    of = config_of(run)
    if of.agent_name != "oracle":
        raise ValueError(f"--expert {run}: an oracle's run is wanted, this is {of.agent_name}'s")
    if of.env_name != config.env_name or of.env.at_test() != config.env.at_test():
        raise ValueError(f"--expert {run}: was trained on another environment: {of.env}")
    parts = _assemble(of)
    found = checkpoint.newest_good(run, like(parts))
    if found is None:
        raise ValueError(f"--expert {run}: has no good checkpoint")
    params = of_seed(parts, found.state[0].learner.params, 0)
    table = None
    if getattr(of.agent, "condition", None) == "embedding":
        table = params["agent"]["table"]
    return Expert(
        parts.agent.initial_core(1),
        lambda core, inputs: parts.learner.act(params, core, inputs, None),
        told(of),
        table,
    )


def like(parts: Assembly) -> tuple[TrainState, Metrics]:
    """What a checkpoint holds, as shapes and types: the state, and the metrics of a row so far."""
    sums = jax.eval_shape(parts.step, parts.like)[1]
    return parts.like, parallel.placed(sums, jax.tree.map(lambda _: parts.of_seeds, sums))


def of_seed(parts: Assembly, tree: Any, number: int) -> Any:
    """What belongs to one seed, by its number in `parts.seeds`."""
    return tree if len(parts.seeds) == 1 else jax.tree.map(lambda leaf: leaf[number], tree)


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


def iterate(
    step: Callable[[TrainState], tuple[TrainState, Metrics]],
) -> Callable[[TrainState, Metrics, Array], tuple[TrainState, Metrics, Any]]:
    """(state, sums, num) -> (state, sums, finite): `num` iterations of `step`, compiled once.

    Metrics are added to `sums` one iteration at a time, so that how the iterations were cut
    into calls leaves no trace. `finite`: for each leaf of the learner's state, whether it is.
    """

    def run(state: TrainState, sums: Metrics, num: Array) -> tuple[TrainState, Metrics, Any]:
        def body(_: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, sums = carry
            state, metrics = step(state)
            return state, jax.tree.map(jnp.add, sums, metrics)

        state, sums = jax.lax.fori_loop(0, num, body, (state, sums))
        finite = jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), state.learner)
        return state, sums, finite

    return run


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
            new.write_text(json.dumps(measured, indent=1) + "\n")
            os.replace(new, path)

    def of(split: str) -> References | None:
        mean = {name: entry["mean"] for name, entry in measured[split].items()}
        if "expert" not in mean or mean["expert"] <= mean["random"]:
            return None
        return References(mean["random"], mean["expert"], mean.get("explorer"))

    return {split: of(split) for split in SPLITS}


def scores(
    parts: Assembly,
    references: dict[str, References | None],
    evaluated: tuple[Evaluation, Array | None],
) -> dict[str, float]:
    """Of both task sets, named as in metrics.csv."""
    played, divergence = evaluated
    row: dict[str, float] = {}
    # labels that name training tasks say nothing about others
    named = parts.label in supervision.OF_TRAINING_TASKS
    ends = (0, parts.train_tasks, len(played.returns))
    for split, start, end in zip(SPLITS, ends[:-1], ends[1:], strict=True):
        of_split = evaluation.part(played, start, end)
        if named and split == "holdout":
            if parts.told_label:
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


def use_cache(cache: Path) -> None:
    """Keeps compiled programs in the directory `cache`, unless the environment names another."""
    if str(cache) != "off" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # XLA divides work by the cores it may use when it compiles, which JAX's key does not
        # know: what one core compiled runs a third slower on two
        where = cache.expanduser() / f"{devices.cores()}-cores"
        jax.config.update("jax_compilation_cache_dir", str(where))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _first(tasks: Task, num: int) -> Task:
    return jax.tree.map(lambda leaf: leaf[:num], tasks)
