"""Compares trained beliefs with the exact posterior at each step: KL(exact || learned) in nats.

    python -m experiments.beliefs RUN [RUN ...] --out DIRECTORY

It plays hold-out tasks with each run's newest checkpoint. A run with several checkpoints
(--keep 50 --checkpoint-minutes 0.5) also shows the belief over training: all checkpoints, and the
belief before training, are compared with the posterior along these same histories. Writes
beliefs.json (means over tasks) and beliefs.png. For labels of several independent parts (the
bandit's arms) it also gives nats per part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from experiments import evaluate, stop
from experiments.evaluate import Trained
from taskbelief.types import Params, Probabilities


def measure(run: Path, num: int) -> list[dict[str, Any]]:
    """Returns, for each seed, the divergence by step and over training, on `num` hold-out tasks."""
    return [_measure(run, list(kept), num) for kept in zip(*evaluate.load_all(run), strict=True)]


def _measure(run: Path, kept: list[Trained], num: int) -> dict[str, Any]:
    """Compares the checkpoints of one seed, `kept`, oldest first."""
    parts, newest = kept[-1].parts, kept[-1].params
    compare = parts.trainer.compare
    if compare is None:
        stop.wrong_usage(
            f"{run}: its agent with label {parts.label} has no belief that can be compared with the"
            " exact posterior"
        )
    tasks = jax.tree.map(lambda leaf: leaf[:num], parts.exam.of("holdout"))
    compiled = jax.jit(compare)

    def divergence(params: Params) -> np.ndarray:
        """Returns the divergence, [T, K], along the same histories each time."""
        return np.asarray(compiled(params, newest, tasks, jax.random.key(0)))

    untrained = parts.trainer.learner.init(jax.random.key(kept[-1].seed)).params
    learned = [(0, divergence(untrained))]
    learned += [(each.about["env_steps"], divergence(each.params)) for each in kept]
    last = learned[-1][1]
    family = parts.env.spec.task
    num_parts = 1
    if isinstance(family, Probabilities) and parts.label == "description":
        num_parts = family.num
    return {
        "run": run.name,
        "label": parts.label,
        "seed": kept[-1].seed,
        "tasks": last.shape[1],
        "parts": num_parts,
        "kl_by_step": last.mean(axis=1).round(4).tolist(),
        "standard_error_at_end": round(float(last[-1].std(ddof=1) / np.sqrt(last.shape[1])), 4),
        "env_steps": [steps for steps, _ in learned],
        "kl_over_training": [round(float(kl.mean()), 4) for _, kl in learned],
    }


def draw(found: list[dict[str, Any]], path: Path) -> None:
    figure, (by_step, training) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for one in found:
        by_step.plot(np.arange(len(one["kl_by_step"])), one["kl_by_step"], label=one["run"])
        steps = np.asarray(one["env_steps"]) / 1e6
        training.plot(steps, one["kl_over_training"], label=one["run"], marker=".")
    by_step.set(xlabel="step of the meta-episode", ylabel="KL(exact || learned), nats", ylim=0)
    training.set(
        xlabel="agent steps of training, millions",
        ylabel="mean over the newest agent's histories",
        yscale="log",
    )
    training.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    training.yaxis.set_major_formatter("{x:g}")
    training.yaxis.set_minor_formatter(NullFormatter())
    for axes in (by_step, training):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    by_step.legend(frameon=False, fontsize=8)
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
            f" last {kl[-1]:.3f} +- {one['standard_error_at_end']:.3f} nats{each};"
            f" mean {one['kl_over_training'][0]:.3f} before training"
            f" and {one['kl_over_training'][-1]:.3f} after"
        )


if __name__ == "__main__":
    main()
