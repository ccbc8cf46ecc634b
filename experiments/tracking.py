"""Measures how closely trained agents follow a hidden target speed.

    python -m experiments.tracking RUN [RUN ...] --out DIRECTORY

It plays hold-out tasks with the newest checkpoints of runs on cheetah_velocity. It writes
tracking.json (mean |v - v_target| of each run by step, and at the end of the meta-episode: over its
last second) and tracking.png (the same, and speeds with their targets).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments import command, evaluate, stop
from experiments.evaluate import Trained
from taskbelief.types import Reals

_ENV = "cheetah_velocity"
_SECONDS = 0.05  # in an agent step
_END = 20  # steps: the last second
_EXAMPLES = 5  # tasks whose speeds are drawn


class Tracked(NamedTuple):
    name: str  # of the run
    agent: str
    seed: int
    speed: np.ndarray  # [K, T]: forward velocity, metres per second
    target: np.ndarray  # [K]

    @property
    def error(self) -> np.ndarray:
        """|v - v_target|, [K, T], metres per second."""
        return np.abs(self.speed - self.target[:, None])


def track(run: Path) -> list[Tracked]:
    """Plays the hold-out tasks with the run's agents, one for each seed, as at evaluation."""
    chosen = command.config_of(run)
    if chosen.env_name != _ENV:
        stop.wrong_usage(f"{run} is of {chosen.env_name}: only {_ENV} has a target speed")
    return [_track(run.name, chosen.agent_name, trained) for trained in evaluate.load(run)]


def _track(run: str, agent: str, trained: Trained) -> Tracked:
    tasks, trajectory = evaluate.play(trained)
    family = trained.parts.env.spec.task
    assert isinstance(family, Reals)
    (forward,) = family.origin
    speed = np.asarray(trajectory.inputs.obs[1:, :, forward]).T
    return Tracked(run, agent, trained.seed, speed, np.asarray(tasks.speed))


def draw(tracked: list[Tracked], path: Path) -> None:
    agents = list(dict.fromkeys(one.agent for one in tracked))
    figure, (errors, *examples) = plt.subplots(
        1, 1 + len(agents), figsize=(5 + 3.2 * len(agents), 3.6), layout="constrained"
    )
    for number, (agent, axes) in enumerate(zip(agents, examples, strict=True)):
        of_agent = [one for one in tracked if one.agent == agent]
        error = np.mean([one.error.mean(axis=0) for one in of_agent], axis=0)
        seconds = _SECONDS * np.arange(1, len(error) + 1)
        errors.plot(seconds, error, color=f"C{number}", label=f"{agent}, {_seeds(len(of_agent))}")
        _speeds(axes, of_agent[0], seconds)
        axes.set_title(of_agent[0].name, fontsize=8)
    errors.set(xlabel="seconds", ylabel="mean |v - v_target|, m/s, hold-out tasks")
    errors.set_ylim(bottom=0)
    errors.legend(frameon=False)
    for axes in (errors, *examples):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def _speeds(axes: Axes, one: Tracked, seconds: np.ndarray) -> None:
    """Draws speeds over time with their targets, for tasks from slow to fast."""
    order = np.argsort(one.target)
    for number, task in enumerate(order[np.linspace(0, len(order) - 1, _EXAMPLES).astype(int)]):
        colour = plt.get_cmap("viridis")(number / _EXAMPLES)
        axes.plot(seconds, one.speed[task], color=colour, linewidth=1.2)
        axes.axhline(one.target[task], color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="seconds", ylabel="v, m/s")


def main() -> None:
    parser = evaluate.about_runs("tracking", "How closely trained agents follow a target speed.")
    arguments = parser.parse_args()
    tracked = [one for run in arguments.runs for one in track(run)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = [
        {
            "run": one.name,
            "agent": one.agent,
            "seed": one.seed,
            "tasks": len(one.target),
            "error_at_end": round(float(one.error[:, -_END:].mean()), 4),
            "standard_error": round(
                float(one.error[:, -_END:].mean(1).std(ddof=1) / np.sqrt(len(one.target))), 4
            ),
            "error_by_step": [round(float(error), 4) for error in one.error.mean(axis=0)],
        }
        for one in tracked
    ]
    (arguments.out / "tracking.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(tracked, arguments.out / "tracking.png")
    for one in record:
        print(
            f"{one['run']:40} |v - v_target| at the end {one['error_at_end']:.2f}"
            f" +- {one['standard_error']:.2f} m/s"
        )


if __name__ == "__main__":
    main()
