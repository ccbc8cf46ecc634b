"""Settings of the test suite: one compilation cache for tests and the programs they start."""

import gc
import os
from importlib import metadata
from pathlib import Path

import jax
import pytest

# A third of the time of a compilation. XLA aborts on a flag that it does not know.
KNOWN = {  # by version of jaxlib
    "--xla_cpu_use_fusion_emitters=false": ("0.9.", "0.10."),
    "--xla_cpu_parallel_codegen_split_count=1": ("0.9.", "0.10."),
    "--xla_cpu_opt_preset=FAST_COMPILE": ("0.10.",),
}
flags = [flag for flag, known in KNOWN.items() if metadata.version("jaxlib").startswith(known)]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()

# Tracing creates millions of long-lived objects: collect garbage less often.
gc.set_threshold(100_000, 50, 100)

CACHE = Path(__file__).parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")  # runs that tests start share the cores
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
jax.config.update("jax_num_cpu_devices", int(os.environ["JAX_NUM_CPU_DEVICES"]))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(scope="module", autouse=True)
def unoptimised(request):
    """Disables XLA's optimisations, also in the programs that tests start: most tests compile much
    and compute little. Modules marked `optimised` keep them."""
    if request.node.get_closest_marker("optimised"):
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    yield
    del os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"]
    jax.config.update("jax_disable_most_optimizations", False)


def pytest_addoption(parser):
    parser.addoption(
        "--matrix",
        action="store_true",
        help="compile every combination of environment, agent, learner and label (half an hour)",
    )
