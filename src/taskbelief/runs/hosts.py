"""Coordination of several processes that train together.

With one process these functions have no effect.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils


def first() -> bool:
    """Returns whether this process writes files and prints messages."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until all processes have reached the point `name`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(call: int, due: bool, signal: int) -> tuple[int, bool, int]:
    """Returns `call` and `due` of process 0, and a signal that any process has received."""
    if jax.process_count() == 1:
        return call, due, signal
    gathered = multihost_utils.process_allgather(np.array([call, due, signal], np.int32))
    values = np.asarray(gathered).reshape(-1, 3)
    return int(values[0, 0]), bool(values[0, 1]), int(values[:, 2].max())
