"""Fixed sets of uniformly drawn tasks."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from taskbelief.envs._settings import require, require_split
from taskbelief.types import Array


def uniform(
    split: str,
    num: int | None,
    sizes: tuple[int, int],
    low: float,
    high: float,
    shape: tuple[int, ...] = (),
) -> Array:
    """Returns the parameters of a task set, [num, *shape] float32 from U(low, high).

    They are the same on every machine: drawn by NumPy's PCG64 from a fixed seed per split. `sizes`:
    of the training and of the hold-out set, where `num` is None.
    """
    require_split(split)
    seed = 0 if split == "train" else 1
    num = sizes[seed] if num is None else num
    require(num >= 1, "num", num, "at least 1")
    rng = np.random.Generator(np.random.PCG64(seed))
    return jnp.asarray(rng.uniform(low, high, (num, *shape)), jnp.float32)
