"""How trained agents adapt within a task: return in each episode, and the paths they take.

    python -m experiments.adaptation RUN [RUN ...] --out DIRECTORY

For runs on sparse_navigation, from their newest checkpoints, on hold-out tasks (Humplik et al.
2019, figure 6). Writes adaptation.json (each run's mean return by episode) and adaptation.png
(runs of one agent together; paths of the first run of each on the same tasks).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments import command, evaluate, stop
from experiments.evaluate import Trained
from taskbelief.envs.sparse_navigation import SparseNavigation

_ENV = "sparse_navigation"
_EXAMPLES = 3  # tasks whose paths are drawn


class Played(NamedTuple):
    name: str  # of the run
    agent: str
    seed: int
    returns: np.ndarray  # [K, E]: of each episode
    paths: np.ndarray  # [K, E, steps, 2]: where each episode went
    goals: np.ndarray  # [K, 2]
    radius: float  # of a goal


def play(run: Path) -> list[Played]:
    """The run's agents, one for each seed, on the hold-out tasks, as at evaluation."""
    chosen = command.config_of(run)
    if chosen.env_name != _ENV:
        stop.wrong_usage(f"{run} is of {chosen.env_name}: only {_ENV} has several episodes a task")
    return [_play(run.name, chosen.agent_name, trained) for trained in evaluate.load(run)]


def _play(run: str, agent: str, trained: Trained) -> Played:
    env = trained.parts.env
    assert isinstance(env, SparseNavigation)
    spec = env.spec
    tasks, trajectory = evaluate.play(trained)
    split = (spec.episodes_per_task, spec.episode_steps)
    reward = np.asarray(trajectory.reward).T.reshape(-1, *split)
    seen = np.moveaxis(np.asarray(trajectory.inputs.obs[:-1]), 0, 1)[..., :2]
    return Played(
        run,
        agent,
        trained.seed,
        reward.sum(axis=-1),
        seen.reshape(-1, *split, 2),
        np.asarray(tasks.goal),
        env.goal_radius,
    )


def draw(played: list[Played], path: Path) -> None:
    agents = list(dict.fromkeys(one.agent for one in played))
    figure = plt.figure(figsize=(5.5 + 2.6 * _EXAMPLES, 2.6 * max(2, len(agents))))
    grid = figure.add_gridspec(len(agents), 2 + _EXAMPLES, wspace=0.15)
    curve = figure.add_subplot(grid[:, :2])
    for number, agent in enumerate(agents):
        of_agent = [one for one in played if one.agent == agent]
        means = np.stack([one.returns.mean(axis=0) for one in of_agent])  # [seeds, E]
        episode = np.arange(1, means.shape[1] + 1)
        mean, colour = means.mean(axis=0), f"C{number}"
        curve.plot(episode, mean, color=colour, label=f"{agent}, {len(means)} seeds")
        if len(means) > 1:
            reach = scipy.stats.sem(means) * scipy.stats.t.ppf(0.975, len(means) - 1)
            curve.fill_between(episode, mean - reach, mean + reach, color=colour, alpha=0.2, lw=0)
        for example in range(_EXAMPLES):
            axes = figure.add_subplot(grid[number, 2 + example])
            _paths(axes, of_agent[0], example)
            if example == 0:
                axes.set_ylabel(of_agent[0].name, fontsize=8)
    curve.set(xlabel="episode of the task", ylabel="mean return of the episode, hold-out tasks")
    curve.set_ylim(bottom=0)
    curve.xaxis.set_major_locator(MaxNLocator(integer=True))
    curve.grid(alpha=0.3)
    curve.legend(frameon=False)
    curve.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _paths(axes: Axes, one: Played, task: int) -> None:
    """Every episode of one task, early ones dark."""
    shown = one.paths[task]
    for episode, path in enumerate(shown):
        shade = plt.get_cmap("viridis")(episode / max(1, len(shown) - 1))
        axes.plot(path[:, 0], path[:, 1], color=shade, linewidth=1.2)
    angles = np.linspace(0, np.pi, 100)
    axes.plot(np.cos(angles), np.sin(angles), color="0.7", linewidth=0.8, linestyle=":")
    axes.add_patch(plt.Circle(one.goals[task], one.radius, color="#d62728", alpha=0.5, lw=0))
    axes.set(xlim=(-1.5, 1.5), ylim=(-0.7, 1.5), aspect="equal", xticks=[], yticks=[])


def main() -> None:
    parser = evaluate.about_runs(
        "adaptation", "Return by episode and paths of trained agents, within a task."
    )
    arguments = parser.parse_args()
    played = [one for run in arguments.runs for one in play(run)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = [
        {
            "run": one.name,
            "agent": one.agent,
            "seed": one.seed,
            "tasks": len(one.returns),
            "return_by_episode": one.returns.mean(axis=0).round(4).tolist(),
            "std_over_tasks": one.returns.std(axis=0).round(4).tolist(),
        }
        for one in played
    ]
    (arguments.out / "adaptation.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(played, arguments.out / "adaptation.png")
    for one in played:
        by_episode = " ".join(f"{value:.2f}" for value in one.returns.mean(axis=0))
        print(f"{one.name:40} {by_episode}")


if __name__ == "__main__":
    main()
