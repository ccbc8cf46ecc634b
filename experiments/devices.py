"""What devices there are: accelerators, or the cores of a CPU."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import jax


def cpu_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def from_cores() -> None:
    """Makes a device of each core, because XLA computes one step of a recurrent network on one
    core only, however many there are.

    To be called before JAX looks for devices; afterwards it does nothing. What the environment
    says about the number of CPU devices stands.
    """
    told = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if told or jax.config.jax_num_cpu_devices != -1:
        return
    with contextlib.suppress(RuntimeError):  # JAX has its devices
        jax.config.update("jax_num_cpu_devices", cpu_cores())


def use_cache(cache: Path) -> None:
    """Keeps compiled programs in the directory `cache`, unless the environment names another."""
    if str(cache) != "off" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # XLA divides work by the cores it may use when it compiles, which JAX's key does not
        # know: what one core compiled runs a third slower on two
        where = cache.expanduser() / f"{cpu_cores()}-cores"
        jax.config.update("jax_compilation_cache_dir", str(where))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
