"""Placement of arrays: meta-episodes are sharded over devices, parameters are replicated.

One mesh, of all devices that take part, of however many hosts. Each device plays its own
meta-episodes, keeps them in a ring of its own, and computes the losses of its own part of each
batch: what crosses between devices is gradients and means. Programs are written as for one
device; XLA divides them, and the numbers are those of one device but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_ROWS = "rows"  # the name of the mesh's one axis
_CPU_PARTS = 2

Tree = TypeVar("Tree")


def usual_parts() -> int:
    """Number of parts that work is divided into by default: one for each device; on the CPU of
    a single process always the same, because numbers depend on it."""
    alone = jax.process_count() == 1 and jax.default_backend() == "cpu"
    return _CPU_PARTS if alone else jax.device_count()


def mesh(devices: Sequence[jax.Device], parts: int) -> Mesh:
    """Mesh of the largest number of devices that divides `parts`."""
    num = max(n for n in range(1, len(devices) + 1) if parts % n == 0)
    return Mesh(np.asarray(devices[:num]), (_ROWS,))


def sharded(on: Mesh, axis: int) -> NamedSharding:
    """Sharding with an equal part of `axis` on each device."""
    return NamedSharding(on, PartitionSpec(*[None] * axis, _ROWS))


def replicated(on: Mesh) -> NamedSharding:
    """Sharding with a whole copy on each device."""
    return NamedSharding(on, PartitionSpec())


def shard(tree: Tree, on: Mesh, axis: int) -> Tree:
    """`tree`, under jit, with `axis` of each leaf divided among the devices."""
    return jax.lax.with_sharding_constraint(tree, sharded(on, axis))


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Shapes and types with the sharding of each leaf."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
