"""Test of an environment from a user's file, on the command line and in Python."""

import csv

import jax
import numpy as np
import pytest

import taskbelief
from experiments import command, evaluate, run
from tests.experiments import tiny
from tests.test_problem import Steps

NAMES = ["--env", "tests.test_problem:Steps", "--agent", "belief"]


def test_its_settings_are_flags(capsys):
    chosen, _ = command.parse([*NAMES, "--env.horizon", "3"])
    assert chosen.env == Steps(3) and chosen.env_name == "tests.test_problem:Steps"
    about = command.about(command.parse(NAMES)[0])
    assert about == "Preset cpu of tests.test_problem:Steps, belief, svg0: the defaults."
    for wrong, said in [
        ("tests.test_problem:Stairs", "--env: unknown env 'tests.test_problem:Stairs'"),
        ("tests.no_such:Steps", "No module named 'tests.no_such'"),
    ]:
        with pytest.raises(SystemExit) as end:
            command.parse(["--env", wrong])
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_it_trains_and_is_scored_by_returns(tmp_path):
    out = tmp_path / "run"
    run.main([*NAMES, *tiny.SIZES, "--steps", "100", "--rows", "1", "--out", str(out)])
    with (out / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert "eval/holdout/return" in last and "eval/holdout/score" not in last
    (found,) = evaluate.evaluate(out)
    loaded = taskbelief.load(out)
    assert evaluate.params_sha256(loaded.params) == found["params_sha256"]
    played = loaded.rollout(loaded.env.task_set("holdout"), jax.random.key(0))
    assert played.posterior is None  # it has no likelihood
    returns = np.asarray(played.reward).sum(axis=0).mean()
    assert float(last["eval/holdout/return"]) == pytest.approx(returns, rel=1e-5)
