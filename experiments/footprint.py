"""Memory of a run on each device: a report before compilation, and a refusal where it does not
fit."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from experiments import stop

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse(text: str) -> int | None:
    """Returns the bytes of "2GB", "500 MB" or "1e9"; None for "". Ends the program otherwise."""
    if not text:
        return None
    number = text.strip().upper().removesuffix("B")
    unit = number[-1:] if number[-1:] in _UNITS else ""
    try:
        size = float(number.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        stop.wrong_usage(f"--replay-memory {text}: a number of bytes, as 500MB or 2GB")
    return int(size)


class Footprint(NamedTuple):
    """Bytes on one device."""

    replay: int
    parameters: int  # with target networks and the optimiser's moments
    batch: int  # meta-episodes of an iteration, and of an update

    def __str__(self) -> str:
        parts = zip(self._fields, self, strict=True)
        return ", ".join(f"{name} {amount(size)}" for name, size in parts)


def size(shapes: Any) -> int:
    """Returns the bytes of the leaves on one device."""
    return sum(_size(leaf) for leaf in jax.tree.leaves(shapes))


def _size(leaf: Any) -> int:
    sharding = getattr(leaf, "sharding", None)
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize


def room(devices: Sequence[jax.Device]) -> int | None:
    """Returns the free bytes on each device; CPU devices share the machine's memory. None: they are
    unknown."""
    device = devices[0]
    if device.platform == "cpu":
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError):
            return None
        return free // len(devices)
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else limit - stats.get("bytes_in_use", 0)


def check(wanted: Footprint, devices: Sequence[jax.Device]) -> str:
    """Returns a line about the memory of this process's devices; ends the program where it does not
    suffice."""
    free, total = room(devices), sum(wanted)
    line = f"Each device will hold: {wanted}"
    if free is not None and total > free:
        stop.wrong_usage(
            f"{wanted}: together {amount(total)}, but each {devices[0].device_kind} has"
            f" {amount(free)} free; take a smaller --replay-memory (or --train.replay_rows),"
            " --train.batch or --train.envs"
        )
    return line + ("." if free is None else f"; {amount(free)} are free.")


def amount(size: float) -> str:
    """Formats bytes for people."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} GB"
