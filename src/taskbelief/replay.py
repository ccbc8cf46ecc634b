"""Whole meta-episodes on the device: a ring of rows, sampled uniformly.

A row is one meta-episode, so that every unroll starts from the zero core.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from taskbelief.types import Array, Key, Trajectory


class Replay(NamedTuple):
    rows: Trajectory  # [capacity, T (+ 1), ...]: row-major, a meta-episode lies together
    next: Array  # [] int32: where the next row goes
    size: Array  # [] int32: rows filled


def init(capacity: int, example: Trajectory) -> Replay:
    """An empty ring; `example` gives shapes and types, [T (+ 1), B, ...]."""
    rows = jax.tree.map(
        lambda leaf: jnp.zeros((capacity, leaf.shape[0], *leaf.shape[2:]), leaf.dtype), example
    )
    zero = jnp.zeros((), jnp.int32)
    return Replay(rows, zero, jnp.zeros_like(zero))


def add(replay: Replay, batch: Trajectory) -> Replay:
    """Writes B meta-episodes over the oldest rows; B must divide the capacity."""
    num = batch.reward.shape[1]
    capacity = replay.rows.reward.shape[0]
    if capacity % num:
        raise ValueError(f"replay of {capacity} rows: must be a multiple of the {num} added")
    rows = jax.tree.map(
        lambda ring, new: jax.lax.dynamic_update_slice_in_dim(
            ring, jnp.swapaxes(new, 0, 1), replay.next, axis=0
        ),
        replay.rows,
        batch,
    )
    return Replay(rows, (replay.next + num) % capacity, jnp.minimum(replay.size + num, capacity))


def sample(replay: Replay, key: Key, num: int) -> Trajectory:
    """`num` rows with replacement, time-major [T (+ 1), num, ...]."""
    index = jax.random.randint(key, (num,), 0, replay.size)
    return jax.tree.map(lambda ring: jnp.swapaxes(ring[index], 0, 1), replay.rows)
