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
    updates: int = 128
    """learner updates per iteration (off-policy learners)"""
    batch: int = 4
    """meta-episodes per update (off-policy learners)"""
    replay_rows: int = 4096
    """capacity of the replay, in meta-episodes (a multiple of `envs`)"""
    warmup: int = 4
    """iterations of collection before the first update"""
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
    init: Any  # (key) -> TrainState
    step: Any  # (TrainState) -> (TrainState, metrics): one iteration
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
    those that the learner's replay selects) and makes `config.updates` updates
    from replay. Metrics are means over the iteration. `teach` None: there are
    no labels. `mesh`: the devices among which work is divided, whose number divides
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
        learner_key, warm_key, key = jax.random.split(key, 3)
        state = learner.init(learner_key)
        if learner.needs.on_policy:
            zero = jnp.zeros((), jnp.int32)
            return TrainState(state, None, key, zero, jnp.zeros_like(zero))
        example = jax.eval_shape(collect, state.params, warm_key)
        buffer = remember(kind.init(config.replay_rows, example, config.shards))

        def fill(buffer: Any, key: Key) -> tuple[Any, None]:
            return remember(kind.add(buffer, collect(state.params, key, selected(buffer)))), None

        buffer, _ = jax.lax.scan(fill, buffer, jax.random.split(warm_key, config.warmup))
        steps = config.warmup * config.envs * env.spec.task_steps
        return TrainState(
            state, buffer, key, jnp.zeros((), jnp.int32), jnp.asarray(steps, jnp.int32)
        )

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        collect_key, learn_key, key = jax.random.split(state.key, 3)
        batch = collect(state.learner.params, collect_key, selected(state.replay))
        if state.replay is None:
            learner_state, metrics = learner.update(state.learner, batch, learn_key)
            buffer = None
        else:
            buffer = remember(kind.add(state.replay, batch))
            learner_state, metrics = learn_off_policy(state.learner, buffer, learn_key)
        metrics["return"] = jnp.mean(jnp.sum(batch.reward, axis=0))
        env_steps = state.env_steps + batch.reward.size
        return TrainState(learner_state, buffer, key, state.iteration + 1, env_steps), metrics

    def learn_off_policy(state: Any, buffer: Any, key: Key) -> tuple[Any, Metrics]:
        def learn(learner_state: object, key: Key) -> tuple[object, Metrics]:
            sample_key, update_key = jax.random.split(key)
            rows = divide(kind.sample(buffer, sample_key, config.batch), 1)
            return learner.update(learner_state, rows, update_key)

        state, metrics = jax.lax.scan(learn, state, jax.random.split(key, config.updates))
        return state, jax.tree.map(jnp.mean, metrics)

    return Train(init, step, collect)


def shardings(state: TrainState, mesh: Mesh, axis: int = 0) -> TrainState:
    """Returns the sharding of each leaf of a training state: the rings of the replay, its axis
    `axis`, are sharded; the rest is replicated."""
    shared: TrainState = jax.tree.map(lambda _: parallel.replicated(mesh), state)
    if state.replay is None:
        return shared
    rows = jax.tree.map(lambda _: parallel.sharded(mesh, axis), state.replay.rows)
    return shared._replace(replay=shared.replay._replace(rows=rows))
