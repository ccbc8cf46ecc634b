"""Where training lives: seeds and meta-episodes divided among devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from experiments import footprint
from experiments.footprint import Footprint
from taskbelief import parallel, training
from taskbelief.trainer import Trainer
from taskbelief.training import TrainState
from taskbelief.types import Array, Metrics


class Placement(NamedTuple):
    seeds: tuple[int, ...]  # trained side by side; with several, they are the first axis of states
    mesh: Mesh  # the devices that take part
    apart: bool  # each device trains seeds of its own, and nothing crosses

    @property
    def within(self) -> Mesh | None:
        """The devices that share the work of a seed."""
        return None if self.apart else self.mesh

    @property
    def seed_sharding(self) -> NamedSharding:
        """Of one number for each seed."""
        return parallel.sharded(self.mesh, 0) if self.apart else parallel.replicated(self.mesh)

    def per_seed(self, function: Callable) -> Callable:
        """`function` of one seed's arguments, for all of them."""
        return jax.vmap(function) if len(self.seeds) > 1 else function

    def select_seed(self, tree: Any, number: int) -> Any:
        """What belongs to one seed, by its number in `seeds`."""
        return tree if len(self.seeds) == 1 else jax.tree.map(lambda leaf: leaf[number], tree)

    def each(self, tree: Any) -> list[Any]:
        """What belongs to each seed."""
        return [self.select_seed(tree, number) for number in range(len(self.seeds))]


def place(seeds: tuple[int, ...], parts: int) -> Placement:
    """Of `seeds`, each in `parts` equal parts, on all devices as far as they can be dealt out.

    Raises:
      ValueError: there are several processes, and some would have nothing to do.
    """
    mesh = parallel.mesh(jax.devices(), parts)
    if jax.process_count() > 1 and mesh.size < jax.device_count():
        raise ValueError(
            f"--train.shards {parts}: must be a multiple of the {jax.device_count()}"
            " devices of all processes"
        )
    return Placement(seeds, mesh, len(seeds) > 1 and len(seeds) % mesh.size == 0)


class Placed(NamedTuple):
    """A trainer's functions, compiled when first called, for all seeds."""

    init: Any  # () -> TrainState; jitted, so that it is traced once
    step: Any  # (TrainState) -> (TrainState, metrics), jitted
    collect: Any  # (params, key) -> Trajectory: what a seed plays in an iteration, jitted
    like: TrainState  # its shapes and types, and where each leaf lives
    needs: Footprint  # memory on each device


def placed(trainer: Trainer, where: Placement) -> Placed:
    """Nothing is compiled yet."""

    def init() -> TrainState:
        keys = [jax.random.key(seed) for seed in where.seeds]
        # one after the other: batched QR on several CPU devices at once waits for itself for ever
        return jax.lax.map(trainer.init, jnp.stack(keys)) if keys[1:] else trainer.init(keys[0])

    state = jax.eval_shape(init)
    if where.apart:
        homes = jax.tree.map(lambda _: where.seed_sharding, state)
    else:
        homes = training.shardings(state, where.mesh, axis=int(len(where.seeds) > 1))
    like = parallel.with_shardings(state, homes)
    sizes = trainer.sizes
    # of what an iteration plays, at a time
    read = 0 if trainer.learner.needs.on_policy else sizes.batch / sizes.envs
    return Placed(
        init=jax.jit(init, out_shardings=homes),
        step=jax.jit(where.per_seed(trainer.step), out_shardings=(homes, where.seed_sharding)),
        collect=jax.jit(trainer.collect),
        like=like,
        needs=Footprint(
            footprint.size(like.replay),
            footprint.size(like.learner),
            round(batch_bytes(trainer, where) * (1 + read) / where.mesh.size),
        ),
    )


def batch_bytes(trainer: Trainer, where: Placement) -> int:
    """Of what all seeds play in an iteration."""
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(trainer.learner.init, key).params
    return footprint.size(jax.eval_shape(trainer.collect, params, key)) * len(where.seeds)


def checkpointed(made: Placed, where: Placement) -> tuple[TrainState, Metrics]:
    """What a checkpoint holds, as shapes and types: the state, and the metrics of a row so far."""
    sums = jax.eval_shape(made.step, made.like)[1]
    return made.like, parallel.with_shardings(
        sums, jax.tree.map(lambda _: where.seed_sharding, sums)
    )


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
