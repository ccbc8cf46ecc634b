"""Trains every combination of some environments, agents, learners, labels and seeds.

    python -m experiments.sweep --env bandit semicircle --agent belief baseline --seeds 0 1 2
    python -m experiments.sweep --file sweep.toml --out sweeps/mine

A cell is a run of experiments.run in the sweep's directory, with the preset for its
combination; flags after "--" go to every run, and --vary gives one flag several values. A
restarted sweep skips finished cells and resumes the others. With --together the seeds of a
combination are one run, in one program (they must be consecutive). Its results are results.csv, one
row for each run; curves.csv, one for each evaluation; table.md, means and 95 % intervals over
seeds; curves.png; with --vary also varied.png, scores and gap by value. A file contains the same
lists:

    env = ["bandit", "semicircle"]
    agent = ["belief", "baseline"]
    seeds = [0, 1, 2]
    vary = ["agent.bottleneck_beta", "0", "0.001"]
    flags = ["--steps", "1000000"]

or any number of groups, each of which replaces some of the lists:

    [[group]]
    agent = ["oracle", "belief", "baseline"]
    [[group]]
    agent = ["belief"]
    learner = ["ppo"]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import numpy as np

from experiments import command, figures, loggers, stop
from taskbelief.runs import config

_LISTS = ("env", "agent", "learner", "label", "seeds", "vary")
_DONE = "finished"  # a file in a run's directory
_MEASURES = {  # in curves.csv, and their titles in table.md
    "eval/holdout/score": "hold-out",
    "eval/train/score": "training",
    "eval/holdout/score_over_explorer": "of the explorer's",
    "eval/holdout/belief_kl": "KL (nats)",
    "eval/holdout/return": "hold-out return",
    "eval/train/return": "training return",
}


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    env: str
    agent: str
    learner: str
    label: str  # "": the label of the preset
    seed: int
    num_seeds: int = 1  # number of consecutive seeds
    flag: str = ""  # varied over the sweep
    value: str = ""

    @property
    def varied(self) -> str:
        return f"{self.flag.rpartition('.')[2]}={self.value}" if self.flag else ""

    @property
    def name(self) -> str:
        last = self.seed + self.num_seeds - 1
        seeds = f"s{self.seed}" if self.num_seeds == 1 else f"s{self.seed}-{last}"
        env = self.env.replace(":", ".")
        names = [env, self.agent, self.learner, self.label, self.varied, seeds]
        return "-".join(part for part in names if part)

    @property
    def flags(self) -> list[str]:
        label = ["--label", self.label] if self.label else []
        names = ["--env", self.env, "--agent", self.agent, "--learner", self.learner]
        varied = [f"--{self.flag}", self.value] if self.flag else []
        several = ["--num_seeds", str(self.num_seeds)] if self.num_seeds > 1 else []
        return [*names, *label, *varied, "--seed", str(self.seed), *several]


def main(args: Sequence[str] | None = None) -> None:
    args = list(sys.argv[1:] if args is None else args)
    cut = args.index("--") if "--" in args else len(args)
    cells, flags, out, jobs = _parse(args[:cut])
    flags = flags + args[cut + 1 :]
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(cells)} runs, {jobs} at a time, in {out}")
    with ThreadPoolExecutor(jobs, initializer=_take, initargs=(_shares(jobs),)) as pool:
        for cell, outcome in pool.map(lambda cell: (cell, play(cell, out, flags)), cells):
            print(f"{cell.name:60} {outcome}", flush=True)
    rows = [row for cell in cells for row in results(cell, out)]
    if not rows:
        stop.failed("no run has finished")
    _write(rows, out)
    print((out / "table.md").read_text())


def _shares(jobs: int) -> Queue[set[int]]:
    """Returns CPU cores for each of the parallel runs; empty where affinity is not supported."""
    shares: Queue[set[int]] = Queue()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for job in range(jobs):
        shares.put(set(cores[job::jobs]))
    return shares


def _take(shares: Queue[set[int]]) -> None:
    """Restricts this thread, and the runs that it starts, to its share of cores: two runs on a core
    each are faster than both on both."""
    share = shares.get()
    if share:
        os.sched_setaffinity(0, share)


def _parse(args: Sequence[str]) -> tuple[list[Cell], list[str], Path, int]:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--file", type=Path, help="TOML with the lists below, and `flags`")
    parser.add_argument("--env", nargs="+")
    parser.add_argument("--agent", nargs="+")
    parser.add_argument("--learner", nargs="+", help="default: the agent's usual one")
    parser.add_argument("--label", nargs="+", help="default: of the preset")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2")
    parser.add_argument("--together", action="store_true", help="all seeds in one program")
    parser.add_argument("--vary", nargs="+", metavar="FLAG VALUE", help="a flag and its values")
    parser.add_argument("--out", type=Path, default=Path("sweeps/sweep"))
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs")
    given = parser.parse_args(args)
    lists: dict[str, list] = {
        "learner": [""],
        "label": [""],
        "seeds": [0, 1, 2],
        "vary": [],
        "flags": [],
    }
    groups: list[dict[str, list]] = [{}]
    if given.file is not None:
        try:
            read = tomllib.loads(given.file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            stop.wrong_usage(f"--file {given.file}: {error}")
        groups = read.pop("group", groups)
        allowed = {*_LISTS, "flags"}, set(_LISTS)
        for part, names in ((read, allowed[0]), *((group, allowed[1]) for group in groups)):
            if unknown := set(part) - names:
                stop.wrong_usage(
                    f"--file {given.file}: unknown {', '.join(sorted(unknown))};"
                    f" choose from {', '.join(sorted(names))}"
                )
        lists |= read
    flags = {name: value for name in _LISTS if (value := getattr(given, name)) is not None}
    products = [lists | group | flags for group in groups]
    for product in products:
        _check(product, given.together)
    if given.jobs < 1:
        stop.wrong_usage(f"--jobs {given.jobs}: must be at least 1")
    cells = [cell for product in products for cell in _cells(product, given.together)]
    return list(dict.fromkeys(cells)), lists["flags"], given.out, given.jobs


def _check(lists: dict[str, list], together: bool) -> None:
    for name in ("env", "agent"):
        if not lists.get(name):
            stop.wrong_usage(f"--{name}: name at least one")
    if len(lists["vary"]) == 1:
        stop.wrong_usage(f"--vary {lists['vary'][0]}: name its values too")
    command.check_names({name: lists[name] for name in ("env", "agent", "learner", "label")})
    seeds = sorted(set(lists["seeds"]))
    if together and seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        listed = " ".join(map(str, seeds))
        stop.wrong_usage(f"--seeds {listed}: with --together they have to follow each other")


def _cells(lists: dict[str, list], together: bool) -> Iterator[Cell]:
    flag, *values = lists["vary"] or [""]
    seeds = [min(lists["seeds"])] if together else lists["seeds"]
    num_seeds = len(set(lists["seeds"])) if together else 1
    names = (lists[name] for name in ("env", "agent", "learner", "label"))
    for env, agent, learner, label, seed in itertools.product(*names, seeds):
        learner = learner or config.usual_learner(agent)
        label = label if config.uses_label(agent) else ""
        for value in values or [""]:
            yield Cell(env, agent, learner, label, seed, num_seeds, flag, value)


def play(cell: Cell, out: Path, flags: Sequence[str]) -> str:
    """Trains one cell to its end, unless it is finished; returns the outcome."""
    run = out / cell.name
    if (run / _DONE).exists():
        return "was finished"
    started = (run / "config.json").exists()
    args = ["--resume", str(run)] if started else [*cell.flags, *flags, "--out", str(run)]
    with (out / f"{cell.name}.log").open("a") as log:
        status = subprocess.run(
            [sys.executable, "-m", "experiments.run", *args],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status == 0:
        (run / _DONE).touch()
        return "finished"
    last = (out / f"{cell.name}.log").read_text().strip().split("\n")[-1]
    if status < 0 or status > 128:
        stop.failed(f"{cell.name} was stopped; the same command continues")
    return f"exit status {status}: {last}"


def results(cell: Cell, out: Path) -> list[dict[str, object]]:
    """Returns a row for each seed of a finished run, and none for an unfinished one."""
    run = out / cell.name
    if not (run / _DONE).exists():
        return []
    label = command.config_of(run).label if config.uses_label(cell.agent) else ""
    return [
        {
            "env": cell.env,
            "agent": cell.agent,
            "learner": cell.learner,
            "label": label,
            "varied": cell.varied,
            "seed": seed,
            "run": cell.name,
            "commit": json.loads((run / "config.json").read_text())["git_commit"],
            **_evaluations(run, seed)[-1],
        }
        for seed in range(cell.seed, cell.seed + cell.num_seeds)
    ]


def _evaluations(run: Path, seed: int) -> list[dict[str, object]]:
    """Returns steps, time and results of each evaluation of a seed."""
    return [
        {
            "env_steps": int(row["env_steps"]),
            "minutes": round(float(row["time/wall_seconds"]) / 60, 2),
            **{
                name: float(f"{float(value):.5g}")
                for name, value in row.items()
                if name.startswith("eval/") and value
            },
        }
        for row in loggers.read(run / "metrics.csv", seed)
        if row["eval/train/return"]
    ]


def _curves(rows: list[dict[str, object]], out: Path) -> Iterator[dict[str, object]]:
    for row in rows:
        for found in _evaluations(out / str(row["run"]), int(str(row["seed"]))):
            kept = {name: found[name] for name in _MEASURES if name in found}
            steps = {name: found[name] for name in ("env_steps", "minutes")}
            yield {"run": row["run"], "seed": row["seed"], **steps, **kept}


def _write(rows: list[dict[str, object]], out: Path) -> None:
    for name, table in (("results", rows), ("curves", list(_curves(rows, out)))):
        columns = list(dict.fromkeys(name for row in table for name in row))
        with (out / f"{name}.new").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(table)
        os.replace(out / f"{name}.new", out / f"{name}.csv")
    (out / "table.md").write_text("\n".join(_table(rows)) + "\n")
    figures.compare(
        {
            (name[0], legend): [(out / str(row["run"]), int(str(row["seed"]))) for row in group]
            for legend, (name, group) in zip(_legend(rows), _groups(rows), strict=True)
        },
        out / "curves.png",
    )
    if any(row["varied"] for row in rows):
        figures.varied(rows, out / "varied.png")


def _groups(rows: list[dict[str, object]]) -> Iterator[tuple[tuple[str, ...], list[dict]]]:
    """Groups runs that differ only in their seed."""

    def key(row: dict[str, object]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in ("env", "agent", "learner", "label", "varied"))

    ordered = sorted(rows, key=key)
    return ((name, list(group)) for name, group in itertools.groupby(ordered, key))


def _legend(rows: list[dict[str, object]]) -> Iterator[str]:
    """Yields a name for each group: the agent, and what tells it from the others. That is the
    learner, if there are several, and the label, if the agent has several in its environment."""
    names = [name for name, _ in _groups(rows)]
    learners = {learner for _, _, learner, _, _ in names}
    for env, agent, learner, label, varied in names:
        labels = {other[3] for other in names if other[:2] == (env, agent)}
        kept = (agent, learner * (len(learners) > 1), label * (len(labels) > 1), varied)
        yield " ".join(word for word in kept if word)


def _table(rows: list[dict[str, object]]) -> Iterator[str]:
    titles = ("env", "agent", "learner", "label", "varied", "seeds", "steps", "minutes")
    # returns where there are no scores
    scored = all("eval/train/score" in row for row in rows)
    measures = [name for name in _MEASURES if not (scored and name.endswith("return"))]
    yield "| " + " | ".join((*titles, *(_MEASURES[name] for name in measures))) + " |"
    yield "|" + "---|" * (len(titles) + len(measures))
    for name, group in _groups(rows):
        cells = [*name, str(len(group)), f"{group[0]['env_steps']:,}"]
        cells.append(f"{np.mean([row['minutes'] for row in group]):.1f}")
        for measure in measures:
            values = [float(row[measure]) for row in group if measure in row]
            cells.append(with_interval(values) if values else "-")
        yield "| " + " | ".join(cells) + " |"


def with_interval(values: Sequence[float]) -> str:
    """Returns the mean with Student's 95 % interval, which a single value does not have."""
    spread = f" ± {figures.interval(values):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
