"""Tests of sweeps: they train each cell once, report refusals, and write tables."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from experiments import figures
from experiments import sweep as sweeps
from tests.experiments import tiny

FLAGS = ["--", *tiny.SIZES, "--steps", str(3 * tiny.ITERATION), "--rows", "2"]
FLAGS += ["--belief_tasks", "0"]


def sweep(out, *args):
    return subprocess.run(
        [sys.executable, "-m", "experiments.sweep", "--out", str(out), *args],
        cwd=tiny.ROOT,
        env=os.environ | {"PYTHONPATH": f"{tiny.ROOT / 'src'}{os.pathsep}{tiny.ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sweep_is_resumable_and_leaves_tables_and_pictures(tmp_path, capsys):
    cells = ["--env", "bandit", "--agent", "aux_head", "--label", "task_embedding", "description"]
    cells += ["--vary", "agent.bottleneck_beta", "0.1", "--seeds", "0", "1", "--jobs", "2"]
    cells += ["--together"]
    done = sweep(tmp_path, *cells, *FLAGS)
    assert done.returncode == 0, done.stderr
    # the combination that needs an expert is reported, with the flag that it lacks
    refused, finished = done.stdout.split("\n")[1:3]
    assert "exit status 2" in refused and "--expert" in refused
    assert finished.endswith("finished")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    varied = "bottleneck_beta=0.1"
    expected = [("description", varied, "0"), ("description", varied, "1")]
    assert [(row["label"], row["varied"], row["seed"]) for row in rows] == expected
    assert len({row["run"] for row in rows}) == 1
    assert -1.0 < float(rows[0]["eval/holdout/score"]) < 1.0
    curves = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert [row["run"] for row in curves] == [row["run"] for row in rows for _ in range(3)]
    table = (tmp_path / "table.md").read_text()
    assert "| bandit | aux_head | svg0 | description | bottleneck_beta=0.1 | 2 |" in table
    for picture in ("curves.png", "varied.png"):
        assert (tmp_path / picture).stat().st_size > 1000

    metrics = tmp_path / rows[0]["run"] / "metrics.csv"
    before = metrics.stat().st_mtime_ns
    sweeps.main(["--out", str(tmp_path), *cells, *FLAGS])
    assert "was finished" in capsys.readouterr().out
    assert metrics.stat().st_mtime_ns == before


def test_intervals_are_students():
    """12.706 and 4.303 are its 97.5 % points with one and two degrees of freedom (any table)."""
    assert figures.interval([0.7, 0.8]) == pytest.approx(12.706 * 0.05, rel=1e-4)
    columns = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    assert figures.interval(columns) == pytest.approx([4.303 / np.sqrt(3), 0.0], rel=1e-3)
    assert np.isnan(figures.interval([0.7]))


def test_unknown_names_are_refused_before_anything_runs(tmp_path):
    done = sweep(tmp_path / "out", "--env", "bandits", "--agent", "belief")
    assert done.returncode == 2
    assert "did you mean bandit?" in done.stderr
    assert not (tmp_path / "out").exists()


def test_groups_of_a_file_are_products_of_their_own(tmp_path, capsys):
    file = tmp_path / "sweep.toml"
    said = 'env = ["bandit"]\nseeds = [1]\n[[group]]\nagent = ["oracle", "belief"]\n'
    file.write_text(said + '[[group]]\nagent = ["belief"]\nlearner = ["ppo", "svg0"]\n')
    names = [cell.name for cell in sweeps._parse(["--file", str(file)])[0]]
    wanted = ["bandit-oracle-svg0-s1", "bandit-belief-svg0-s1", "bandit-belief-ppo-s1"]
    assert names == wanted
    file.write_text(said + "jobs = 2\n")
    with pytest.raises(SystemExit):
        sweeps._parse(["--file", str(file)])
    assert "unknown jobs; choose from agent, env" in capsys.readouterr().err


def test_environments_of_modules_have_directories_of_their_own():
    cell = sweeps.Cell("mine.envs:line", "belief", "svg0", "", 3)
    assert cell.name == "mine.envs.line-belief-svg0-s3"
    assert cell.flags[:2] == ["--env", "mine.envs:line"]


def test_the_table_has_returns_where_there_are_no_scores():
    names = {"env": "line", "agent": "belief", "learner": "svg0", "label": "", "varied": ""}
    common = names | {"env_steps": 1000, "minutes": 2.0}
    returns = {"eval/holdout/return": 5.0, "eval/train/return": 6.0}
    head, _, row = sweeps._table([common | returns])
    assert head.endswith("| KL (nats) | hold-out return | training return |")
    assert row.endswith("| 1,000 | 2.0 | - | - | - | - | 5.00 | 6.00 |")
    scores = {"eval/holdout/score": 0.5, "eval/train/score": 0.75}
    head, _, row = sweeps._table([common | returns | scores])
    assert head.endswith("| hold-out | training | of the explorer's | KL (nats) |")
    assert row.endswith("| 1,000 | 2.0 | 0.50 | 0.75 | - | - |")


def test_the_legend_names_what_tells_groups_apart():
    columns = ("env", "agent", "learner", "label", "varied")

    def legend(*groups):
        return list(sweeps._legend([dict(zip(columns, group, strict=True)) for group in groups]))

    belief = ("line", "belief", "svg0", "description", "")
    exact = ("line", "exact_belief", "svg0", "", "")
    assert legend(belief, exact) == ["belief", "exact_belief"]
    # another label of the same agent in the same environment, and only there
    action = ("line", "belief", "svg0", "expert_action", "")
    elsewhere = ("plane", "belief", "svg0", "expert_action", "")
    expected = ["belief description", "belief expert_action", "exact_belief", "belief"]
    assert legend(belief, action, exact, elsewhere) == expected
    # another learner, anywhere
    ppo = ("plane", "belief", "ppo", "description", "")
    assert legend(belief, exact, ppo) == ["belief svg0", "exact_belief svg0", "belief ppo"]
    varied = [(*belief[:4], f"hidden={size}") for size in (32, 64)]
    assert legend(*varied) == ["belief hidden=32", "belief hidden=64"]


def test_curves_with_evaluations_at_other_steps_are_averaged_at_the_same_steps():
    few = np.array([0.0, 2.0, 4.0, 8.0]), np.array([0.0, 1.0, 2.0, 3.0])
    many = np.array([0.0, 1.0, 3.0, 5.0, 6.0]), np.array([0.0, 2.0, 6.0, 10.0, 12.0])
    x, y = figures.aligned([many, few])
    np.testing.assert_allclose(x, [0, 2, 4])
    np.testing.assert_allclose(y, [[0, 4, 8], [0, 1, 2]])
