"""Tests of the reference policies' returns, and of scores."""

import dataclasses
import json

import numpy as np
import pytest

import taskbelief
from experiments import references
from taskbelief import explorer, scoring
from taskbelief.evaluation import References
from tests.toys import HOLDOUT, TRAIN, World

BANDIT = taskbelief.make("bandit")


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_the_score_of_random_is_0_and_of_the_expert_1(split):
    entry = references.references(BANDIT)[split]
    for name, wanted in (("random", 0.0), ("expert", 1.0)):
        assert references.score(entry[name]["mean"], BANDIT, split) == pytest.approx(wanted)
    middle = (entry["random"]["mean"] + entry["expert"]["mean"]) / 2
    assert references.score(middle, BANDIT, split) == pytest.approx(0.5)


def test_scores_are_of_the_hold_out_set_unless_said_otherwise():
    expert = references.references(BANDIT)["holdout"]["expert"]["mean"]
    assert references.score(expert, BANDIT) == 1.0


def test_each_set_is_measured_by_its_own_tasks(monkeypatch):
    entry = references.measure(World())
    # four steps with 1000 times the task each, plus 1 + 2 + 3 + 4
    for split, tasks in (("train", TRAIN), ("holdout", HOLDOUT)):
        found = entry[split]["random"]
        returns = 4000 * tasks + 10
        half = 1.96 * returns.std(ddof=1) / np.sqrt(len(tasks))
        assert found["mean"] == returns.mean()
        assert found["ci95"] == pytest.approx([returns.mean() - half, returns.mean() + half])
        assert found["tasks"] == len(tasks)
        assert list(entry[split]) == ["random"]
    monkeypatch.setattr(scoring, "MOST", 3)
    assert references.measure(World())["holdout"]["random"]["mean"] == 4000 * 101 + 10


def test_they_are_measured_as_at_test():
    measured = references.references(World(episodes=2, help=True))
    assert measured["settings"] == dataclasses.asdict(World(episodes=2))
    assert measured["env"] == "tests.toys:World"


def test_which_policies_there_are():
    assert list(explorer.policies(BANDIT)) == [
        "random",
        "expert",
        "explorer",
        "thompson",
        "ucb",
        "gittins",
    ]
    semicircle = taskbelief.make("semicircle")
    assert list(explorer.policies(semicircle)) == ["random", "expert", "explorer"]


def test_an_entry_replaces_the_one_of_the_same_settings(monkeypatch, tmp_path):
    monkeypatch.setattr(references, "FILE", tmp_path / "references.json")
    one, two = ({"env": "b", "settings": {"arms": arms}, "train": 0} for arms in (1, 2))
    other = {"env": "a", "settings": {"arms": 1}, "train": 0}
    for entry in (two, one, other, one | {"train": 3}):
        references.save(entry)
    assert references.load() == [other, one | {"train": 3}, two]


def test_a_run_keeps_what_was_measured_for_it(tmp_path):
    entry = {"mean": 2.0}, {"mean": 10.0}, {"mean": 6.0}
    named = dict(zip(("random", "expert", "explorer"), entry, strict=True))
    measured = {"train": named, "holdout": {"random": {"mean": 2.0}, "expert": {"mean": 2.0}}}
    (tmp_path / "references.json").write_text(json.dumps(measured))
    found = references.of_run(World(), tmp_path)
    assert found == {"train": References(2.0, 10.0, 6.0), "holdout": None}


def test_a_run_without_them_measures_and_keeps_them(tmp_path):
    assert references.of_run(BANDIT, tmp_path)["holdout"].expert > 60
    assert json.loads((tmp_path / "references.json").read_text()) == references.references(BANDIT)
