"""A sweep trains its cells once, says why a cell is refused, and leaves a table."""

import csv
import os
import subprocess
import sys

from tests.experiments import tiny

FLAGS = ["--", *tiny.SIZES, "--steps", str(3 * tiny.ITERATION), "--rows", "2"]


def sweep(out, *args):
    return subprocess.run(
        [sys.executable, "-m", "experiments.sweep", "--out", str(out), *args],
        cwd=tiny.ROOT,
        env=os.environ | {"PYTHONPATH": f"{tiny.ROOT / 'src'}{os.pathsep}{tiny.ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sweep_is_resumable_and_leaves_a_table(tmp_path):
    cells = ["--env", "bandit", "--agent", "aux_head", "--label", "task_embedding", "description"]
    done = sweep(tmp_path, *cells, "--seeds", "0", *FLAGS)
    assert done.returncode == 0, done.stderr
    # the combination that makes no sense without an expert is named, with what it lacks
    refused, finished = done.stdout.split("\n")[1:3]
    assert "exit status 2" in refused and "--expert" in refused
    assert finished.endswith("finished")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["label"] for row in rows] == ["description"]
    assert -1.0 < float(rows[0]["eval/holdout/score"]) < 1.0
    table = (tmp_path / "table.md").read_text()
    assert "| bandit | aux_head | svg0 | description |  | 1 |" in table
    assert (tmp_path / "curves.png").stat().st_size > 1000

    metrics = tmp_path / "bandit-aux_head-svg0-description-s0" / "metrics.csv"
    before = metrics.stat().st_mtime_ns
    again = sweep(tmp_path, *cells, "--seeds", "0", *FLAGS)
    assert "was finished" in again.stdout
    assert metrics.stat().st_mtime_ns == before


def test_a_flag_can_be_varied(tmp_path):
    cells = ["--env", "bandit", "--agent", "aux_head", "--seeds", "0"]
    vary = ["--vary", "agent.bottleneck_beta", "0", "0.1"]
    done = sweep(tmp_path, *cells, *vary, *FLAGS)
    assert done.returncode == 0, done.stdout
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["varied"] for row in rows] == ["0", "0.1"]
    assert (tmp_path / "varied.png").stat().st_size > 1000


def test_unknown_names_are_refused_before_anything_runs(tmp_path):
    done = sweep(tmp_path / "out", "--env", "bandits", "--agent", "belief")
    assert done.returncode == 2
    assert "did you mean bandit?" in done.stderr
    assert not (tmp_path / "out").exists()
