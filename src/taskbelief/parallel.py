"""Placement of arrays: meta-episodes are sharded over devices, parameters are replicated.

There is one mesh, of all devices in use, on one or several hosts. Each device plays its own
meta-episodes, stores them in a ring of its own, and computes the losses of its part of each batch;
only gradients and means pass between devices. Programs are written as for one device and divided
by XLA; the results are those of one device, apart from the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_ROWS = "rows"  # the name of the mesh's only axis
_CPU_PARTS = 2

Tree = TypeVar("Tree")


def usual_parts() -> int:
    """Returns the default number of parts into which work is divided: one for each device; on the
    CPU of a single process a constant, because results depend on it."""
    alone = jax.process_count() == 1 and jax.default_backend() == "cpu"
    return _CPU_PARTS if alone else jax.device_count()


def mesh(devices: Sequence[jax.Device], parts: int) -> Mesh:
    """Returns the mesh of the largest number of devices that divides `parts`."""
    num = max(n for n in range(1, len(devices) + 1) if parts % n == 0)
    return Mesh(np.asarray(devices[:num]), (_ROWS,))


def sharded(on: Mesh, axis: int) -> NamedSharding:
    """Returns the sharding with an equal part of `axis` on each device."""
    return NamedSharding(on, PartitionSpec(*[None] * axis, _ROWS))


def replicated(on: Mesh) -> NamedSharding:
    """Returns the sharding with a whole copy on each device."""
    return NamedSharding(on, PartitionSpec())


def shard(tree: Tree, on: Mesh, axis: int) -> Tree:
    """Divides `axis` of each leaf of `tree` among the devices, under jit."""
    return jax.lax.with_sharding_constraint(tree, sharded(on, axis))


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Adds the sharding of each leaf to shapes and types."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
