"""Placement of training: seeds and meta-episodes divided among devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from experiments import footprint
from experiments.footprint import Footprint
from taskbelief import parallel, training
from taskbelief.trainer import Trainer
from taskbelief.training import TrainState
from taskbelief.types import Array, Metrics


class Placement(NamedTuple):
    seeds: tuple[int, ...]  # of one program; with several, they are the first axis of states
    mesh: Mesh  # the devices in use
    apart: bool  # each device trains seeds of its own, without communication

    @property
    def within(self) -> Mesh | None:
        """The devices among which a seed is divided."""
        return None if self.apart else self.mesh

    @property
    def seed_sharding(self) -> NamedSharding:
        """The sharding of one number for each seed."""
        return parallel.sharded(self.mesh, 0) if self.apart else parallel.replicated(self.mesh)

    def per_seed(self, function: Callable, shared: int = 0) -> Callable:
        """Returns `function`, which takes one argument of a seed and `shared` arguments of all
        seeds, mapped over all seeds."""
        axes = (0, *[None] * shared)
        return jax.vmap(function, axes) if len(self.seeds) > 1 else function

    def select_seed(self, tree: Any, number: int) -> Any:
        """Returns the part of `tree` of one seed, by its number in `seeds`."""
        return tree if len(self.seeds) == 1 else jax.tree.map(lambda leaf: leaf[number], tree)

    def each(self, tree: Any) -> list[Any]:
        """Returns the part of `tree` of each seed."""
        return [self.select_seed(tree, number) for number in range(len(self.seeds))]


def place(seeds: tuple[int, ...], parts: int) -> Placement:
    """Places `seeds`, each in `parts` equal parts, on as many devices as possible.

    Raises:
      ValueError: there are several processes, and some would have no work.
    """
    mesh = parallel.mesh(jax.devices(), parts)
    if jax.process_count() > 1 and mesh.size < jax.device_count():
        raise ValueError(
            f"--train.shards {parts}: must be a multiple of the {jax.device_count()}"
            " devices of all processes"
        )
    return Placement(seeds, mesh, len(seeds) > 1 and len(seeds) % mesh.size == 0)


class Placed(NamedTuple):
    """A trainer's functions for all seeds, compiled at their first call."""

    # (seeds [num]) -> TrainState, jitted; seeds are an argument, so that runs with other seeds find
    # the compiled program of one run again
    init: Any
    seeds: np.ndarray  # [num] int32
    step: Any  # (TrainState, collections) -> (TrainState, metrics), jitted
    like: TrainState  # shapes, types and shardings
    needs: Footprint  # memory on each device


def placed(trainer: Trainer, where: Placement) -> Placed:
    """Returns the functions of `trainer` for all seeds, not compiled yet."""

    @jax.jit
    def init(seeds: Array) -> TrainState:
        keys = jax.vmap(jax.random.key)(seeds)
        # one after the other, because batched QR on several CPU devices at once never finishes
        return jax.lax.map(trainer.init, keys) if len(seeds) > 1 else trainer.init(keys[0])

    seeds = np.asarray(where.seeds, np.int64).astype(np.int32)
    state = jax.eval_shape(init, seeds)
    if where.apart:
        homes = jax.tree.map(lambda _: where.seed_sharding, state)
    else:
        homes = training.shardings(state, where.mesh, axis=int(len(where.seeds) > 1))
    like = parallel.with_shardings(state, homes)
    sizes = trainer.sizes
    # meta-episodes read by an update, relative to those of an iteration
    read = 0 if trainer.learner.needs.on_policy else sizes.batch / sizes.envs
    return Placed(
        init=jax.jit(init, out_shardings=homes),
        seeds=seeds,
        step=jax.jit(
            where.per_seed(trainer.step, shared=1), out_shardings=(homes, where.seed_sharding)
        ),
        like=like,
        needs=Footprint(
            footprint.size(like.replay),
            footprint.size(like.learner),
            round(batch_bytes(trainer, where) * (1 + read) / where.mesh.size),
        ),
    )


def batch_bytes(trainer: Trainer, where: Placement) -> int:
    """Returns the bytes of the meta-episodes of all seeds in an iteration."""
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(trainer.learner.init, key).params
    return footprint.size(jax.eval_shape(trainer.collect, params, key)) * len(where.seeds)


def checkpointed(made: Placed, where: Placement) -> tuple[TrainState, Metrics]:
    """Returns the content of a checkpoint, as shapes and types: the state, and the metrics of the
    current row."""
    sums = jax.eval_shape(made.step, made.like, 1)[1]
    return made.like, parallel.with_shardings(
        sums, jax.tree.map(lambda _: where.seed_sharding, sums)
    )


def iterate(
    step: Callable[[TrainState, Array], tuple[TrainState, Metrics]],
) -> Callable[[TrainState, Metrics, Array, Array], tuple[TrainState, Metrics, Any]]:
    """Returns the function (state, sums, num, collections) -> (state, sums, finite).

    It makes `num` iterations of `step`, compiled once. The first has `collections`, the others one.

    Metrics are added to `sums` one iteration at a time, so that results do not depend on the
    division of iterations into calls. `finite`: whether each leaf of the learner's state is finite.
    """

    def run(
        state: TrainState, sums: Metrics, num: Array, collections: Array
    ) -> tuple[TrainState, Metrics, Any]:
        def body(number: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, sums = carry
            state, metrics = step(state, jnp.where(number == 0, collections, 1))
            return state, jax.tree.map(jnp.add, sums, metrics)

        state, sums = jax.lax.fori_loop(0, num, body, (state, sums))
        finite = jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), state.learner)
        return state, sums, finite

    return run
