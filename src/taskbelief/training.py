"""The compiled training step: collects meta-episodes, stores them in the replay, updates.

An on-policy learner uses the meta-episodes of the current policy once; there is no replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from taskbelief import parallel, replay, rollout
from taskbelief.types import Agent, Array, Env, Key, Learner, Metrics, Teacher, Trajectory


@dataclass(frozen=True)
class Config:
    envs: int = 32
    """meta-episodes collected in parallel in each iteration, each on a new training task"""
    updates: int = 64
    """learner updates per iteration (off-policy learners)"""
    batch: int = 8
    """meta-episodes per update (off-policy learners)"""
    replay_rows: int = 4096
    """capacity of the replay, in meta-episodes (a multiple of `envs`)"""
    warmup: int = 4
    """collections before the first iteration's own, to fill the replay (off-policy learners)"""
    shards: int = 1
    """number of equal parts into which collection, replay and batches are divided, each of which
    can be on a device of its own; results depend on the parts, not on the devices"""


class TrainState(NamedTuple):
    """The whole state of training."""

    learner: Any  # the learner's state, with `params`
    replay: Any  # the learner's replay; None: it is on-policy
    key: Key
    iteration: Array  # [] int32
    env_steps: Array  # [] int32: agent steps taken in the environment so far


class Train(NamedTuple):
    init: Any  # (key) -> TrainState, with an empty replay
    step: Any  # (TrainState, collections=1) -> (TrainState, metrics): one iteration
    collect: Any  # (params, key) -> Trajectory: the meta-episodes of one iteration


def make(
    env: Env,
    agent: Agent,
    learner: Learner,
    teach: Teacher | None,
    config: Config,
    mesh: Mesh | None = None,
) -> Train:
    """Returns pure functions that train `learner` on the training tasks of `env`.

    One iteration plays `config.envs` meta-episodes on tasks drawn from the training set (or on
    those that the learner's replay selects) and makes `config.updates` updates from replay.
    Off-policy, it collects `collections` [] int32 times before them: once, and in the first
    iteration also for the warm-up. Metrics are means over the iteration. `teach` None: there are no
    labels. `mesh`: the devices among which work is divided, whose number divides
    `config.shards`; None: the default device alone.

    Raises:
      ValueError: sizes that are no multiples of `config.shards`.
    """
    for name in ("envs", "batch", "replay_rows"):
        if getattr(config, name) % config.shards:
            raise ValueError(
                f"train.{name} {getattr(config, name)}: must be a multiple of train.shards"
                f" {config.shards}, the parts that are divided among devices"
            )
    tasks = env.task_set("train")
    num_tasks = rollout.batch_size(tasks)
    kind = replay.WHOLE if learner.replay is None else learner.replay

    def divide(tree: Any, axis: int) -> Any:
        """`axis` of each leaf, divided among the devices of the mesh."""
        return tree if mesh is None else parallel.shard(tree, mesh, axis)

    def selected(buffer: Any) -> Array | None:
        return None if kind.tasks is None else kind.tasks(buffer, config.envs)

    @jax.jit  # traced once for all that call it
    def collect(params: object, key: Key, index: Array | None = None) -> Trajectory:
        task_key, play_key = jax.random.split(key)
        if index is None:
            index = jax.random.randint(task_key, (config.envs,), 0, num_tasks)
        played = rollout.collect(
            env,
            divide(rollout.take(tasks, index), 0),
            play_key,
            lambda carry, inputs, key: learner.act(params, carry, inputs, key),
            divide(agent.initial_carry(config.envs), 0),
            teach,
        )
        return divide(played, 1)

    def remember(buffer: Any) -> Any:
        return buffer._replace(rows=divide(buffer.rows, 0))

    def init(key: Key) -> TrainState:
        learner_key, key = jax.random.split(key)
        state = learner.init(learner_key)
        buffer = None
        if not learner.needs.on_policy:
            example = jax.eval_shape(collect, state.params, key)
            buffer = remember(kind.init(config.replay_rows, example, config.shards))
        return TrainState(state, buffer, key, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def step(state: TrainState, collections: Array | int = 1) -> tuple[TrainState, Metrics]:
        collect_key, learn_key, key = jax.random.split(state.key, 3)
        if state.replay is None:
            batch = collect(state.learner.params, collect_key)
            buffer, returned, collections = None, mean_return(batch), 1
            learner_state, metrics = learner.update(state.learner, batch, learn_key)
        else:
            buffer, returned = fill(state.replay, state.learner.params, collect_key, collections)
            learner_state, metrics = learn_off_policy(state.learner, buffer, learn_key)
        metrics["return"] = returned
        env_steps = state.env_steps + collections * config.envs * env.spec.task_steps
        return TrainState(learner_state, buffer, key, state.iteration + 1, env_steps), metrics

    def fill(start: Any, params: object, key: Key, collections: Array | int) -> tuple[Any, Array]:
        """Returns the replay with what is collected, and the mean return of the last collection.

        The warm-up is part of this loop, so that XLA compiles the collection once."""

        def more(number: Array, carry: tuple[Any, Array]) -> tuple[Any, Array]:
            buffer, _ = carry
            batch = collect(params, jax.random.fold_in(key, number), selected(buffer))
            return remember(kind.add(buffer, batch)), mean_return(batch)

        return jax.lax.fori_loop(0, collections, more, (start, jnp.zeros(())))

    def learn_off_policy(state: Any, buffer: Any, key: Key) -> tuple[Any, Metrics]:
        def learn(learner_state: object, key: Key) -> tuple[object, Metrics]:
            sample_key, update_key = jax.random.split(key)
            rows = divide(kind.sample(buffer, sample_key, config.batch), 1)
            return learner.update(learner_state, rows, update_key)

        state, metrics = jax.lax.scan(learn, state, jax.random.split(key, config.updates))
        return state, jax.tree.map(jnp.mean, metrics)

    return Train(init, step, collect)


def mean_return(batch: Trajectory) -> Array:
    """Returns the mean over meta-episodes of the sum of rewards, []."""
    return jnp.mean(jnp.sum(batch.reward, axis=0))


def shardings(state: TrainState, mesh: Mesh, axis: int = 0) -> TrainState:
    """Returns the sharding of each leaf of a training state: the rings of the replay, its axis
    `axis`, are sharded; the rest is replicated."""
    shared: TrainState = jax.tree.map(lambda _: parallel.replicated(mesh), state)
    if state.replay is None:
        return shared
    rows = jax.tree.map(lambda _: parallel.sharded(mesh, axis), state.replay.rows)
    return shared._replace(replay=shared.replay._replace(rows=rows))
