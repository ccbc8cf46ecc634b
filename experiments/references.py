"""Returns of the reference policies, which define normalised scores.

    python -m experiments.references                      all environments, default settings
    python -m experiments.references --env numpad length=2

random: uniform actions, score 0. expert: scripted, knows the task, score 1. explorer: does
not know the task and acts as the expert for the exact posterior's most probable one. The bandit
also has Thompson sampling, UCB and the Gittins index, which is nearly Bayes-optimal. Each plays one
meta-episode on each task of the training and the hold-out set (of large sets the first thousand, as
in evaluations), in the environment at test. The results are in results/references.json, one entry
for each environment and its settings.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import taskbelief
from taskbelief import evaluation, registry, scoring, types
from taskbelief.card import Reference
from taskbelief.evaluation import References
from taskbelief.exam import SPLITS
from taskbelief.types import Env

FILE = Path(__file__).parent / "results" / "references.json"


@functools.lru_cache
def references(env: Env) -> dict:
    """Returns the entry for `env`: from the file if it has these settings, otherwise measured.

    `references(env)["holdout"]["expert"]["mean"]` is the mean return over hold-out tasks.
    """
    wanted = identity(types.at_test(env))
    for entry in load():
        if {field: entry[field] for field in wanted} == wanted:
            return entry
    return measure(types.at_test(env))


def score(returns: float, env: Env, split: str = "holdout") -> float:
    """Normalises `returns`: 0 is the random policy, 1 the expert, on the same tasks."""
    entry = references(env)[split]
    if "expert" not in entry:
        raise ValueError(f"{registry.name_of(env)} has no expert to normalise by")
    ends = References(entry["random"]["mean"], entry["expert"]["mean"], None)
    return evaluation.normalise(returns, ends)


def identity(env: Any) -> dict:
    """Returns the key of an entry: name and settings."""
    return {"env": registry.name_of(env), "settings": dataclasses.asdict(env)}


def load() -> list[dict]:
    return json.loads(FILE.read_text()) if FILE.exists() else []


def save(entry: dict) -> None:
    """Replaces the entry with the same key, or adds one; the file stays sorted."""
    others = [
        old for old in load() if (old["env"], old["settings"]) != (entry["env"], entry["settings"])
    ]
    entries = sorted([*others, entry], key=lambda e: (e["env"], json.dumps(e["settings"])))
    FILE.write_text(json.dumps(entries, indent=1) + "\n")


def measure(env: Env) -> dict:
    """Plays every reference policy on the tasks of both sets."""
    entry = identity(env)
    for split in ("train", "holdout"):
        _, tasks = scoring.task_list(env, split, scoring.MOST, seed=0)
        played = scoring.beside(env, split, tasks, seed=0)
        entry[split] = {name: _entry(reference) for name, reference in played.items()}
    return entry


def _entry(reference: Reference) -> dict:
    each = np.asarray(reference.returns, np.float64)
    half_width = 1.96 * each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else float("nan")
    return {
        "mean": round(float(each.mean()), 4),
        "ci95": [round(float(each.mean() + side * half_width), 4) for side in (-1, 1)],
        "tasks": len(each),
    }


def of_run(env: Env, run: Path) -> dict[str, References | None]:
    """Returns the references of each task set; None for a set without normalised scores.

    They are measured once for a run and stored in its references.json.
    """
    path = run / "references.json"
    if path.exists():
        measured = json.loads(path.read_text())
    else:
        measured = references(env)
        if jax.process_index() == 0:
            new = path.with_suffix(".new")
            new.write_text(json.dumps(measured, indent=1, default=str) + "\n")
            os.replace(new, path)
    return {
        split: evaluation.references(
            {name: entry["mean"] for name, entry in measured[split].items()}
        )
        for split in SPLITS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Returns of the reference policies.")
    parser.add_argument("--env", choices=taskbelief.environments(), help="default: all of them")
    parser.add_argument("settings", nargs="*", metavar="field=value", help="of --env")
    arguments = parser.parse_args()
    if arguments.settings and not arguments.env:
        parser.error("settings need --env")
    settings = dict(setting.split("=", 1) for setting in arguments.settings)
    for name in [arguments.env] if arguments.env else taskbelief.environments():
        env = taskbelief.make(name, **{field: _value(v) for field, v in settings.items()})
        start = time.perf_counter()
        entry = measure(types.at_test(env))
        save(entry)
        print(f"{name} ({time.perf_counter() - start:.0f} s)")
        for split in ("train", "holdout"):
            for policy, result in entry[split].items():
                low, high = result["ci95"]
                print(
                    f"  {split:8}{policy:10}{result['mean']:9.3f}"
                    f"  [{low:.3f}, {high:.3f}]  {result['tasks']} tasks"
                )


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main()
