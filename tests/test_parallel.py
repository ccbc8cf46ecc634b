"""Tests of several devices: they give the results of one, and communicate by sums alone."""

import json
import os
import subprocess
import sys

import jax
import pytest

from taskbelief import parallel
from tests.eight_devices import functions

# for parameters of order 1 after twenty updates; a sum of eight parts rounds differently
TOLERANCE = 1e-5


def test_eight_devices_train_as_one():
    done = subprocess.run(
        [sys.executable, "-m", "tests.eight_devices", "svg0", "ppo"],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "8"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    both = json.loads(done.stdout)
    for found in both.values():
        assert found["devices"] == 8
        assert found["params"] < TOLERANCE
        assert max(found["metrics"].values()) < TOLERANCE
        assert found["collectives"] == ["all-reduce"]
    assert both["svg0"]["rows on each"] == 96 / 8
    assert both["svg0"]["rows"] == 0.0


def test_as_many_devices_as_parts_can_be_dealt_to():
    devices = jax.devices() * 6
    assert parallel.mesh(devices, 8).size == 4
    assert parallel.mesh(devices, 7).size == 1


def test_sizes_that_cannot_be_dealt_out():
    with pytest.raises(ValueError, match=r"train.batch 10: must be a multiple of train.shards 8"):
        functions("svg0", None, batch=10)
