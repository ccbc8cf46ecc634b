"""Trained beliefs against the exact posterior, step by step: KL(exact || learned) in nats.

    python -m experiments.beliefs RUN [RUN ...] --out DIRECTORY

On hold-out tasks, along the agents' own histories, from the newest checkpoints. Writes
beliefs.json (the mean over tasks at every step) and beliefs.png. For labels of several
independent parts (the bandit's arms) it also gives nats per part.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from experiments import config, evaluate, stop
from experiments.config import RunConfig
from experiments.evaluate import Trained
from taskbelief.types import Probabilities


def measure(run: Path, tasks: int) -> list[dict[str, Any]]:
    """For each seed, the divergence by step, mean over `tasks` hold-out tasks."""
    chosen = dataclasses.replace(config.load(run), belief_tasks=tasks)
    return [_measure(run, chosen, trained) for trained in evaluate.load(run, chosen)]


def _measure(run: Path, chosen: RunConfig, trained: Trained) -> dict[str, Any]:
    parts = trained.parts
    _, divergence = parts.evaluate(trained.params)
    if divergence is None:
        stop.wrong_usage(
            f"{run}: {chosen.agent_name} with label {parts.label} has no belief that can be held"
            " against the exact posterior"
        )
    divergence = np.asarray(divergence)
    family, num = parts.env.spec.task, 1
    if parts.label == "description" and isinstance(family, Probabilities):
        num = family.num
    return {
        "run": run.name,
        "env": chosen.env_name,
        "agent": chosen.agent_name,
        "label": parts.label,
        "seed": trained.seed,
        "tasks": divergence.shape[1],
        "parts": num,
        "kl_by_step": divergence.mean(axis=1).round(4).tolist(),
        "standard_error_at_end": round(
            float(divergence[-1].std(ddof=1) / np.sqrt(divergence.shape[1])), 4
        ),
    }


def draw(found: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for one in found:
        kl = np.asarray(one["kl_by_step"])
        axes.plot(np.arange(len(kl)), kl, label=one["run"], linewidth=1.6)
    axes.set(xlabel="step of the meta-episode", ylabel="KL(exact || learned), nats")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = evaluate.about_runs(
        "beliefs", "Trained beliefs against the exact posterior, step by step."
    )
    parser.add_argument("--tasks", type=int, default=256, help="hold-out tasks to play")
    arguments = parser.parse_args()
    if arguments.tasks < 2:
        stop.wrong_usage(f"--tasks {arguments.tasks}: must be at least 2")
    found = [one for run in arguments.runs for one in measure(run, arguments.tasks)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "beliefs.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, arguments.out / "beliefs.png")
    for one in found:
        kl, parts = one["kl_by_step"], one["parts"]
        each = f" ({kl[-1] / parts:.4f} for each of {parts})" if parts > 1 else ""
        print(
            f"{one['run']:40} first step {kl[0]:.3f}, half way {kl[len(kl) // 2]:.3f},"
            f" last {kl[-1]:.3f} +- {one['standard_error_at_end']:.3f} nats{each}"
        )


if __name__ == "__main__":
    main()
