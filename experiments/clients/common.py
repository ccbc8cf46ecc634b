"""Common parts of the table's clients: environments, the score on hold-out tasks, rows.

Every client trains on the same environment, with tasks of the training set, and is scored with
deterministic actions on one meta-episode on each of `TASKS` hold-out tasks: 0 is the random
policy, 1 the scripted expert, both on the same tasks.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import taskbelief
from taskbelief import rollout, scoring, types

# the environments of the presets, with their help in training; the bandit with 5 arms
ENVS: dict[str, dict[str, Any]] = {
    "bandit": {"arms": 5},
    "semicircle": {},
    "numpad": {"train_tasks": 464, "cues": "next", "cue_share": 0.4, "mercy_share": 0.6},
}
STEPS = {"bandit": 320_000, "semicircle": 640_000, "numpad": 800_000}
TASKS = 200  # numpad has fewer
RESULTS = Path(__file__).parents[1] / "results" / "clients"
FIELDS = (
    "client",
    "env",
    "seed",
    "score",
    "return",
    "random",
    "expert",
    "steps",
    "minutes",
    "wall",
)


def arguments(description: str, rest: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--env", choices=sorted(ENVS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="default: those of the table")
    parser.add_argument("--out", type=Path, default=RESULTS / "runs.csv", help="a row is added")
    args = parser.parse_args(rest)
    args.steps = args.steps or STEPS[args.env]
    return args


def test_env(name: str) -> Any:
    """The environment that agents are scored in."""
    return types.at_test(taskbelief.make(name, **ENVS[name]))


def holdout(env: Any) -> Any:
    """The hold-out tasks, batched."""
    every = env.task_set("holdout")
    return jax.tree.map(lambda leaf: leaf[:TASKS], every)


def played(env: Any, act: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Plays each hold-out task once through the Gymnasium adapter; gives the returns, [K].

    Args:
      act: (observations [K, size], starts [K] bool) -> actions; keeps its own memory.
    """
    from taskbelief.adapters import gymnasium

    tasks = holdout(env)
    envs = gymnasium.make_vec(env, rollout.batch_size(tasks), task=tasks)
    obs, info = envs.reset(seed=0)
    returns: np.ndarray = np.zeros(envs.num_envs)
    for _ in range(env.spec.task_steps):
        obs, reward, _, over, next_info = envs.step(act(obs, info["task_start"]))
        returns += reward
        info = next_info
    assert over.all()
    return returns


class Watch:
    """Measures CPU minutes and wall-clock minutes from construction to `stop`. On one core without
    other work both are the same."""

    def __init__(self) -> None:
        self.began = time.process_time(), time.perf_counter()

    def stop(self) -> None:
        ended = time.process_time(), time.perf_counter()
        self.minutes = [(b - a) / 60 for a, b in zip(self.began, ended, strict=True)]


def row(
    client: str, args: argparse.Namespace, returns: np.ndarray, steps: int, watch: Watch
) -> None:
    """Adds the score to the table's data, and prints it."""
    env = test_env(args.env)
    tasks = holdout(env)
    found = scoring.beside(env, "given", tasks, 0, ("random", "expert"))
    random, expert = (float(np.mean(found[name].returns)) for name in ("random", "expert"))
    mean = float(np.mean(returns))
    score = (mean - random) / (expert - random)
    values = (client, args.env, args.seed, score, mean, random, expert, steps, *watch.minutes)
    shown = {
        name: f"{value:.4f}" if isinstance(value, float) else value
        for name, value in zip(FIELDS, values, strict=True)
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    fresh = not args.out.exists()
    with args.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        writer.writerow(shown)
    print(shown, flush=True)


def settings_of(env: str) -> dict[str, Any]:
    """The settings, named as flags of experiments.run: {"env.arms": 5}."""
    made: Any = taskbelief.make(env)
    known = {field.name for field in dataclasses.fields(made)}
    assert set(ENVS[env]) <= known
    return {f"env.{name}": value for name, value in ENVS[env].items()}
