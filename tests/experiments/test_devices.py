"""Tests of a CPU's cores as devices."""

import os
import subprocess
import sys

import jax
import pytest

from experiments import devices, footprint


def found(environment):
    """Returns (devices of JAX, parts into which work is divided) of a new process."""
    program = (
        "from experiments import devices; devices.from_cores(); import jax;"
        " from taskbelief import parallel;"
        " print(jax.device_count(), parallel.usual_parts())"
    )
    without = {name: value for name, value in os.environ.items() if "NUM_CPU_DEVICES" not in name}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**without, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return tuple(map(int, done.stdout.split()))


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, devices.cpu_cores()),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ],
    ids=["cores", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"],
)
def test_each_core_is_a_device_unless_the_environment_says_otherwise(environment, wanted):
    assert found(environment) == (wanted, 2)


def test_devices_of_a_cpu_share_its_memory(monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 12, "SC_PAGE_SIZE": 4096}.get)
    assert footprint.room(jax.devices("cpu")[:1] * 3) == 4 * 4096
