"""Compares after how many steps one learner has the score at which another ends.

    python -m experiments.efficiency experiments/results/svg0 experiments/results/ppo

Both are directories with the results of sweeps. For each environment and agent in both, the table
has the final hold-out score of the slow learner (mean over its seeds, with Student's 95 %
interval), its steps in all, and after how many of them its own mean first had that score; then the
steps of the fast one to it: those of the first evaluation at which the mean over its seeds is at or
above it, their share of all steps of the slow learner and of its first ones, and the same for each
seed alone, with its minutes. Returns replace scores in environments without an expert. Minutes are
comparable only if the runs had the machine to themselves.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import loggers, stop, sweep


class Curve(NamedTuple):
    """The evaluations of one seed."""

    steps: np.ndarray  # [num] int
    minutes: np.ndarray  # [num]
    results: np.ndarray  # [num]: hold-out scores, or returns


def reaches(results: np.ndarray, wanted: float) -> int | None:
    """Returns the number of the first evaluation at or above `wanted`; None: there is none."""
    good = np.flatnonzero(results >= wanted)
    return int(good[0]) if good.size else None


def steps_of_mean(curves: Sequence[Curve], wanted: float) -> int | None:
    """Returns the steps of the first evaluation at which the mean over `curves` is at or above
    `wanted`, of those evaluations that all seeds have; None: there is none."""
    common = functools.reduce(np.intersect1d, [curve.steps for curve in curves])
    shared = [curve.results[np.isin(curve.steps, common)] for curve in curves]
    number = reaches(np.mean(shared, axis=0), wanted)
    return None if number is None else int(common[number])


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.efficiency", description=__doc__)
    parser.add_argument("fast", type=Path, help="results of the learner whose steps are counted")
    parser.add_argument("slow", type=Path, help="results of the learner whose score it reaches")
    chosen = parser.parse_args(args)
    fast, slow = read(chosen.fast), read(chosen.slow)
    shared = [names for names in slow if names in fast]
    if not shared:
        stop.failed(f"{chosen.fast} and {chosen.slow} have no environment and agent in common")
    print("\n".join(table({names: (fast[names], slow[names]) for names in shared})))


def read(folder: Path) -> dict[tuple[str, str], list[Curve]]:
    """Returns {(environment, agent): a curve for each seed} of a sweep's results."""
    if not (folder / "curves.csv").exists():
        stop.failed(f"{folder} has no curves.csv; is it a sweep's directory?")
    runs, rows = (loggers.read(folder / name) for name in ("results.csv", "curves.csv"))
    found: dict[tuple[str, str], list[Curve]] = {}
    if len({run["learner"] for run in runs}) > 1:
        stop.failed(f"{folder} has several learners; each needs a directory of its own")
    names = {(run["env"], run["agent"], run["label"], run["varied"]) for run in runs}
    if len({name[:2] for name in names}) < len(names):
        stop.failed(f"{folder} has several labels or values of a flag for an agent")
    for run in runs:
        own = [row for row in rows if (row["run"], row["seed"]) == (run["run"], run["seed"])]
        measure = "score" if own[0].get("eval/holdout/score") else "return"
        columns = ("env_steps", "minutes", f"eval/holdout/{measure}")
        curve = Curve(*(np.array([float(row[name]) for row in own]) for name in columns))
        found.setdefault((run["env"], run["agent"]), []).append(curve)
    return found


def table(pairs: dict[tuple[str, str], tuple[list[Curve], list[Curve]]]) -> Iterator[str]:
    """Yields the lines of the table; `pairs`: curves of the fast and of the slow learner."""
    yield (
        "| env | agent | the other's score | its steps | its minutes | its first steps to it "
        "| steps | share of all | share of the first | seed by seed | minutes |"
    )
    yield "|" + "---|" * 11
    for (env, agent), (fast, slow) in pairs.items():
        last = [float(curve.results[-1]) for curve in slow]
        wanted = statistics.fmean(last)
        steps = statistics.fmean(curve.steps[-1] for curve in slow)
        minutes = statistics.fmean(curve.minutes[-1] for curve in slow)
        numbers = [(curve, reaches(curve.results, wanted)) for curve in fast]
        reached = [(c.steps[n], c.minutes[n]) for c, n in numbers if n is not None]
        # The last evaluation has it, but for rounding.
        its_first = steps_of_mean(slow, wanted) or steps
        cells = [env, agent, sweep.with_interval(last), _millions(steps), f"{minutes:.1f}"]
        cells.append(_millions(its_first))
        first = steps_of_mean(fast, wanted)
        if first is None:
            cells += ["-"] * 3
        else:
            cells += [_millions(first), f"{first / steps:.2f}", f"{first / its_first:.2f}"]
        if len(reached) == len(fast):
            own, clock = zip(*reached, strict=True)
            cells += [f"{_millions(min(own))} to {_millions(max(own))}"]
            cells += [f"{min(clock):.1f} to {max(clock):.1f}"]
        else:
            cells += [f"{len(reached)} of {len(fast)} seeds have it", "-"]
        yield "| " + " | ".join(cells) + " |"


def _millions(steps: float) -> str:
    return f"{steps / 1e6:.2f} M"


if __name__ == "__main__":
    main()
