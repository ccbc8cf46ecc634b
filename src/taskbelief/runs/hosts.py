"""Several processes that train together: who speaks, and what they have to agree on.

With one process everything here is as if it were not there.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils


def first() -> bool:
    """Whether this process writes files and speaks to people."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Until all processes have come to the place `name`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(call: int, due: bool, signal: int) -> tuple[int, bool, int]:
    """Process 0's `call` and `due`; a signal that any process has received."""
    if jax.process_count() == 1:
        return call, due, signal
    said = multihost_utils.process_allgather(np.array([call, due, signal], np.int32))
    said = np.asarray(said).reshape(-1, 3)
    return int(said[0, 0]), bool(said[0, 1]), int(said[:, 2].max())
