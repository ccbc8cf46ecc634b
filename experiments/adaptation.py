"""Measures how trained agents adapt within a task: return in each episode, and paths.

    python -m experiments.adaptation RUN [RUN ...] --out DIRECTORY

It plays hold-out tasks with the newest checkpoints of runs on sparse_navigation (Humplik et al.
2019, figure 6), and with the scripted explorer. It writes adaptation.json (return by episode and
measures of the search, for each run) and adaptation.png (mean and one standard deviation over tasks
and seeds, runs of one agent together; paths of each agent's first run on the same tasks).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import jax
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from experiments import command, evaluate, stop
from experiments.evaluate import Trained
from taskbelief import explorer, rollout, types
from taskbelief.envs.sparse_navigation import SparseNavigation
from taskbelief.types import Env, Task, Trajectory

_ENV = "sparse_navigation"
_EXAMPLES = 3  # tasks whose paths are drawn
_EXPLORER, _EXPLORED = "explorer", 200  # a reference policy, and how many tasks it plays


class Played(NamedTuple):
    name: str  # of the run
    agent: str
    seed: int
    returns: np.ndarray  # [K, E]: of each episode
    paths: np.ndarray  # [K, E, steps + 1, 2]: where each episode went, from its start to its end
    goals: np.ndarray  # [K, 2]
    radius: float  # of a goal

    @property
    def searching(self) -> np.ndarray:
        """[K, E] bool: no earlier episode of the task has hit the goal."""
        hits = self.returns > 0
        return np.cumsum(hits, axis=1) - hits == 0

    @property
    def end_distance(self) -> np.ndarray:
        """[K, E]: distance from the goal at the end of each episode."""
        return np.linalg.norm(self.paths[:, :, -1] - self.goals[:, None], axis=-1)

    @property
    def search_spread(self) -> float:
        """Standard deviation, in radians, of the angles at which a task's episodes end until the
        goal is hit; mean over tasks with several such episodes. It is 0.91 for angles that are
        uniform on the half circle."""
        end = self.paths[:, :, -1]
        angles = np.arctan2(end[..., 1], end[..., 0])
        several = self.searching.sum(axis=1) > 1
        spreads = [
            np.std(task[before])
            for task, before in zip(angles[several], self.searching[several], strict=True)
        ]
        return float(np.mean(spreads)) if spreads else float("nan")


def play(run: Path) -> list[Played]:
    """Plays the hold-out tasks with the run's agents, one for each seed, as at evaluation."""
    chosen = command.config_of(run)
    if chosen.env_name != _ENV:
        stop.wrong_usage(f"{run} is of {chosen.env_name}: only {_ENV} has several episodes a task")
    return [_play(run.name, chosen.agent_name, trained) for trained in evaluate.load(run)]


def explore(run: Path) -> Played:
    """Plays some of these tasks with the scripted explorer, which uses the exact posterior."""
    env = types.at_test(command.config_of(run).env)
    tasks = jax.tree.map(lambda leaf: leaf[:_EXPLORED], env.task_set("holdout"))
    play = jax.jit(lambda key: rollout.collect_scripted(env, tasks, key, explorer.explorer(env)))
    return _played(_EXPLORER, _EXPLORER, 0, env, tasks, play(jax.random.key(0)))


def _play(run: str, agent: str, trained: Trained) -> Played:
    return _played(run, agent, trained.seed, trained.parts.env, *evaluate.play(trained))


def _played(
    name: str, agent: str, seed: int, env: Env, tasks: Task, trajectory: Trajectory
) -> Played:
    assert isinstance(env, SparseNavigation)
    spec = env.spec
    split = (spec.episodes_per_task, spec.episode_steps)
    reward = np.asarray(trajectory.reward).T.reshape(-1, *split)
    inputs = trajectory.inputs
    reached = inputs.obs if inputs.reached is None else inputs.reached
    seen, led_to = (
        np.moveaxis(np.asarray(part), 0, 1)[..., :2].reshape(-1, *split, 2)
        for part in (inputs.obs[:-1], reached[1:])
    )
    return Played(
        name,
        agent,
        seed,
        reward.sum(axis=-1),
        np.concatenate([seen[:, :, :1], led_to], axis=2),
        np.asarray(tasks.goal),
        env.goal_radius,
    )


def draw(played: list[Played], path: Path, reference: Played | None = None) -> None:
    """Draws returns by episode and paths; `reference` is a dotted line beside the curves."""
    agents = list(dict.fromkeys(one.agent for one in played))
    figure = plt.figure(figsize=(5.5 + 2.6 * _EXAMPLES, 2.6 * max(2, len(agents))))
    grid = figure.add_gridspec(len(agents), 2 + _EXAMPLES, wspace=0.15)
    curve = figure.add_subplot(grid[:, :2])
    for number, agent in enumerate(agents):
        of_agent = [one for one in played if one.agent == agent]
        returns = np.concatenate([one.returns for one in of_agent])  # [seeds and tasks, E]
        episode = np.arange(1, returns.shape[1] + 1)
        mean, std, colour = returns.mean(axis=0), returns.std(axis=0), f"C{number}"
        seeds = len({(one.name, one.seed) for one in of_agent})
        curve.plot(episode, mean, color=colour, label=f"{agent}, {seeds} seeds")
        curve.fill_between(episode, mean - std, mean + std, color=colour, alpha=0.15, lw=0)
        for example in range(_EXAMPLES):
            axes = figure.add_subplot(grid[number, 2 + example])
            _paths(axes, of_agent[0], example)
            if example == 0:
                axes.set_ylabel(of_agent[0].name, fontsize=8)
    if reference is not None:
        mean = reference.returns.mean(axis=0)
        curve.plot(np.arange(1, len(mean) + 1), mean, color="0.4", ls=":", label=reference.agent)
    curve.set(xlabel="episode of the task", ylabel="mean return of the episode, hold-out tasks")
    curve.set_ylim(bottom=0)
    curve.xaxis.set_major_locator(MaxNLocator(integer=True))
    curve.grid(alpha=0.3)
    curve.legend(frameon=False)
    curve.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if values.size else None


def _paths(axes: Axes, one: Played, task: int) -> None:
    """Draws every episode of one task, early ones dark."""
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
    reference = explore(arguments.runs[0])
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = [
        {
            "run": one.name,
            "agent": one.agent,
            "seed": one.seed,
            "tasks": len(one.returns),
            "return_by_episode": one.returns.mean(axis=0).round(4).tolist(),
            "std_over_tasks": one.returns.std(axis=0).round(4).tolist(),
            "hit_by_episode": (~one.searching | (one.returns > 0)).mean(axis=0).round(4).tolist(),
            "end_distance_after_hit": _mean(one.end_distance[~one.searching]),
            "end_angle_std_before_hit": round(one.search_spread, 4),
        }
        for one in (*played, reference)
    ]
    (arguments.out / "adaptation.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(played, arguments.out / "adaptation.png", reference)
    for one in (*played, reference):
        by_episode = " ".join(f"{value:.2f}" for value in one.returns.mean(axis=0))
        print(f"{one.name:40} {by_episode}")
        hits = (~one.searching | (one.returns > 0)).mean(axis=0)[-1]
        print(
            f"{'':40} hit {hits:.3f} of the tasks; after a hit ends"
            f" {_mean(one.end_distance[~one.searching])} from the goal; until then its ends differ"
            f" by {one.search_spread:.2f} rad"
        )


if __name__ == "__main__":
    main()
