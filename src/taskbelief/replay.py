"""Replay of whole meta-episodes on the device: rings of rows, sampled uniformly.

A row is one meta-episode, so that every unroll starts from the zero carry. A replay consists of
one ring, or of several of equal size. Each ring receives an equal part of every batch and provides
an equal part of every sample, so that it can be stored and read on a device of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from taskbelief.types import Array, Key, ReplayKind, Trajectory


class Replay(NamedTuple):
    rows: Trajectory  # [rings, capacity of each, T (+ 1), ...]: a meta-episode is contiguous
    next: Array  # [] int32: index of the next row to write in each ring
    size: Array  # [] int32: number of rows in use in each ring


def init(capacity: int, example: Trajectory, rings: int = 1) -> Replay:
    """Returns `rings` empty rings of `capacity` rows in total; `example`, [T (+ 1), B, ...], gives
    shapes and types."""
    each = _divide(capacity, rings, "replay")
    rows = jax.tree.map(
        lambda leaf: jnp.zeros((rings, each, leaf.shape[0], *leaf.shape[2:]), leaf.dtype), example
    )
    zero = jnp.zeros((), jnp.int32)
    return Replay(rows, zero, jnp.zeros_like(zero))


def add(replay: Replay, batch: Trajectory) -> Replay:
    """Writes B meta-episodes, an equal part into each ring, over the oldest rows; B must divide
    the capacity."""
    rings, capacity = replay.rows.reward.shape[:2]
    num = _divide(batch.reward.shape[1], rings, "a batch")
    if capacity % num:
        raise ValueError(
            f"replay of {rings * capacity} rows: must be a multiple of the {rings * num} added"
        )

    def write(ring: Array, new: Array) -> Array:
        new = jnp.moveaxis(new, 0, 1).reshape(rings, num, *ring.shape[2:])
        return jax.lax.dynamic_update_slice_in_dim(ring, new, replay.next, axis=1)

    rows = jax.tree.map(write, replay.rows, batch)
    return Replay(rows, (replay.next + num) % capacity, jnp.minimum(replay.size + num, capacity))


def sample(replay: Replay, key: Key, num: int) -> Trajectory:
    """Draws `num` rows with replacement, time-major [T (+ 1), num, ...]: an equal part from each
    ring, in the order of rings."""
    rings = replay.rows.reward.shape[0]
    each = _divide(num, rings, "a sample")
    index = jax.random.randint(key, (rings, each), 0, replay.size)

    def read(ring: Array) -> Array:
        drawn = jax.vmap(lambda rows, index: rows[index])(ring, index)
        return jnp.moveaxis(drawn.reshape(num, *ring.shape[2:]), 0, 1)

    return jax.tree.map(read, replay.rows)


def _divide(num: int, rings: int, what: str) -> int:
    if num % rings:
        raise ValueError(f"{what} of {num} rows: must be a multiple of the {rings} rings")
    return num // rings


WHOLE = ReplayKind(init, add, sample)
