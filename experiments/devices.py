"""Devices: accelerators, or the cores of a CPU."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax


def cpu_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def from_cores() -> None:
    """Makes a device of each core, because XLA computes a step of a recurrent network on one core
    only.

    It has an effect only before the first use of JAX's devices. Environment variables for the
    number of CPU devices take precedence.
    """
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if given or jax.config.jax_num_cpu_devices != -1:
        return
    with contextlib.suppress(RuntimeError):  # JAX is already initialised
        jax.config.update("jax_num_cpu_devices", cpu_cores())


def use_cache(cache: Path) -> None:
    """Stores compiled programs in the directory `cache`; an environment variable takes
    precedence."""
    if str(cache) != "off" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # XLA divides work among the cores at compile time, which JAX's key does not include: a
        # program compiled on one core is a third slower on two
        where = cache.expanduser() / f"{cpu_cores()}-cores"
        jax.config.update("jax_compilation_cache_dir", str(where))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
