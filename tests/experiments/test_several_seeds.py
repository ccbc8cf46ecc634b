"""Tests runs of several seeds in one program."""

import shutil

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
    for seed in "01":
        alone = without_clocks(train(tmp_path / seed, "--seed", seed))
        for several in (together, apart):
            own = [row for row in without_clocks(several) if row["seed"] == seed]
            for one, other in zip(own, alone, strict=True):
                assert one.keys() == other.keys()
                for name, value in one.items():
                    if value or other[name]:
                        assert float(value) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-4)
            assert list((several / f"seed-{seed}").glob("events*"))

    last = tiny.saved(together)
    metrics = without_clocks(together)
    shutil.rmtree(together / "checkpoints" / str(tiny.ITERATIONS))
    run.main(["--resume", str(together)])
    resumed = tiny.saved(together)
    assert last.keys() == resumed.keys()
    assert all(last[name].tobytes() == resumed[name].tobytes() for name in last)
    assert without_clocks(together) == metrics
    for seed, found in enumerate(evaluate.evaluate(together)):
        logged = [row for row in metrics if row["seed"] == str(seed)][-1]
        wanted = float(logged["eval/holdout/score"])
        assert found["eval/holdout/score"] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
