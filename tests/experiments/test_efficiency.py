"""Tests of the comparison of learners by their steps to a score."""

import csv

import pytest

from experiments import efficiency


def results(folder, learner, curves, measure="score", agent="belief"):
    """Writes a sweep's results; `curves`: (steps, minutes, score) of each evaluation, by seed."""
    folder.mkdir()
    runs, rows = [], []
    for seed, curve in curves.items():
        names = {"env": "bandit", "agent": agent, "learner": learner, "label": "", "varied": ""}
        runs.append(names | {"run": "r", "seed": seed})
        for steps, minutes, score in curve:
            row = {"run": "r", "seed": seed, "env_steps": steps, "minutes": minutes}
            rows.append(row | {f"eval/holdout/{measure}": score})
    for name, table in (("results", runs), ("curves", rows)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)


@pytest.mark.parametrize("measure", ["score", "return"])
def test_steps_to_the_others_score_by_hand(tmp_path, capsys, measure):
    """The slow learner ends at a mean of 0.65. Its means before are 0.5 and, at 2 M steps, 0.7. The
    fast one's seeds have 0.65 at their second, first and third evaluation, and losing it later
    changes nothing. Their means are 0.47, 0.55 and 0.73 at the steps that all have. 12.706 * 0.05 =
    0.64 is Student's interval of two."""
    slow = {
        0: [(1e6, 1, 0.9), (2e6, 4, 0.7), (4e6, 8, 0.6)],
        1: [(1e6, 1, 0.1), (2e6, 5, 0.7), (4e6, 10, 0.7)],
    }
    fast = {
        0: [(2e5, 1.0, 0.6), (4e5, 2.0, 0.65), (6e5, 3.0, 0.5)],
        1: [(2e5, 1.5, 0.7), (3e5, 2.0, 0.9), (4e5, 3.0, 0.8), (6e5, 4.5, 0.8)],
        2: [(2e5, 0.5, 0.1), (4e5, 1.0, 0.2), (6e5, 1.5, 0.9)],
    }
    results(tmp_path / "slow", "ppo", slow, measure)
    results(tmp_path / "fast", "svg0", fast, measure)
    efficiency.main([str(tmp_path / "fast"), str(tmp_path / "slow")])
    row = capsys.readouterr().out.splitlines()[-1]
    cells = ["bandit", "belief", "0.65 ± 0.64", "4.00 M", "9.0", "2.00 M"]
    cells += ["0.60 M", "0.15", "0.30", "0.20 M to 0.60 M", "1.5 to 2.0"]
    assert row == "| " + " | ".join(cells) + " |"


def test_seeds_that_never_have_it_are_counted(tmp_path, capsys):
    results(tmp_path / "slow", "ppo", {0: [(4e6, 8, 0.6)]})
    results(tmp_path / "fast", "svg0", {0: [(2e5, 1, 0.59)], 1: [(2e5, 1, 0.6)]})
    efficiency.main([str(tmp_path / "fast"), str(tmp_path / "slow")])
    assert capsys.readouterr().out.endswith(
        "| 8.0 | 4.00 M | - | - | - | 1 of 2 seeds have it | - |\n"
    )


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    results(tmp_path / "slow", "ppo", {0: [(4e6, 8, 0.6)]}, agent="oracle")
    results(tmp_path / "fast", "svg0", {0: [(2e5, 1, 0.6)]})
    results(tmp_path / "both", "svg0", {0: [(2e5, 1, 0.6)]})
    with (tmp_path / "both" / "results.csv").open("a") as file:
        file.write("bandit,belief,ppo,,,r,0\n")
    for varied, added in (("label", "task_index,"), ("flag", ",gamma=0.9")):
        results(tmp_path / varied, "svg0", {0: [(2e5, 1, 0.6)]})
        with (tmp_path / varied / "results.csv").open("a") as file:
            file.write(f"bandit,belief,svg0,{added},r,1\n")
    for folder, said in (
        ("slow", "in common"),
        ("none", "has no curves.csv"),
        ("both", "several learners"),
        ("label", "several labels or values"),
        ("flag", "several labels or values"),
    ):
        with pytest.raises(SystemExit) as end:
            efficiency.main([str(tmp_path / "fast"), str(tmp_path / folder)])
        assert end.value.code == 1
        assert said in capsys.readouterr().err
