"""Tests of the table of other projects' agents, without those agents."""

import argparse
import csv
import re

import numpy as np
import pytest

pytest.importorskip("gymnasium")
from experiments.clients import common, table
from tests.adapters.tally import Tally


def test_a_policy_plays_each_hold_out_task_once():
    """Tasks 4 and 5 reward each of 8 steps with ten times their number plus the sum of actions."""
    starts = []

    def act(obs, start):
        starts.append(start.tolist())
        return np.full((2, 1), 0.5, np.float32)

    found = common.played(Tally(), act)
    sums = 2 * (0.5 + 1.0 + 1.5 + 2.0)
    np.testing.assert_allclose(found, [320 + sums, 400 + sums])
    assert starts == [[True, True]] + [[False, False]] * 7


def test_rows_are_scored_between_random_and_expert(tmp_path, monkeypatch):
    out = tmp_path / "runs.csv"
    args = argparse.Namespace(env="bandit", seed=3, out=out)
    watch = common.Watch()
    watch.stop()
    for client in ("a", "b"):
        common.row(client, args, np.array([60.0, 70.0]), 1000, watch)
    rows = list(csv.DictReader(out.open()))
    assert [row["client"] for row in rows] == ["a", "b"]
    random, expert = float(rows[0]["random"]), float(rows[0]["expert"])
    # the best of 5 arms has a mean of 5 / 6; the standard error of 200 tasks is about 1
    assert abs(random - 50) < 4 and abs(expert - 100 * 5 / 6) < 4
    assert float(rows[0]["score"]) == pytest.approx((65 - random) / (expert - random), abs=1e-4)


def test_the_table():
    rows = [
        {"client": "a", "env": "bandit", "score": "0.5", "minutes": "1.0", "steps": "2000"},
        {"client": "a", "env": "bandit", "score": "0.254", "minutes": "2.0", "steps": "2000"},
        {"client": "b", "env": "numpad", "score": "-0.1", "minutes": "0.5", "steps": "2000"},
    ]
    assert table.table(rows).splitlines()[2:] == [
        "| a | 0.50 0.25 (2 k, 1.5 min) | not run | not run |",
        "| b | not run | not run | -0.10 (2 k, 0.5 min) |",
    ]


def test_the_committed_table_is_of_the_committed_rows():
    rows = list(csv.DictReader((common.RESULTS / "runs.csv").open()))
    shown = (common.RESULTS.parents[1] / "clients" / "README.md").read_text()
    assert table.table(rows) in shown
    assert re.search(r"320 k", shown)
