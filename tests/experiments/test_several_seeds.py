"""Tests runs of several seeds in one program."""

import shutil

import jax
import numpy as np
import pytest

from experiments import evaluate, run
from tests.experiments import tiny
from tests.experiments.test_run import train, without_clocks


def test_seeds_side_by_side_are_each_as_alone(tmp_path):
    """They match single runs to float tolerance, on one device and on one device each; interrupted
    and resumed, they match to the bit."""
    apart = tmp_path / "apart"
    process = tiny.start(*tiny.arguments(apart, "--num-seeds", "2"), devices=2)
    together = train(tmp_path / "together", "--num-seeds", "2", "--checkpoint_minutes", "0")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    for number, seed in enumerate((0, 1)):
        alone = train(tmp_path / str(seed), "--seed", str(seed))
        own = [row for row in without_clocks(together) if row["seed"] == str(seed)]
        for one, other in zip(own, without_clocks(alone), strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                if value or other[name]:
                    assert float(value) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-4)
        wanted = evaluate.load(alone)[0].params
        for found in (evaluate.load(path)[number].params for path in (together, apart)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, wanted)
        assert list((together / f"seed-{seed}").glob("events*"))
    whole = [found["params_sha256"] for found in evaluate.evaluate(together)]
    shutil.rmtree(together / "checkpoints" / str(tiny.ITERATIONS))
    run.main(["--resume", str(together)])
    assert [found["params_sha256"] for found in evaluate.evaluate(together)] == whole
