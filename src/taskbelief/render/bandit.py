"""Arms: the true probabilities, the share of pulls that won, and the last pull."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskbelief.envs.bandit import Bandit, Task
from taskbelief.render._parts import BALL, INK, LIT, TRUTH, History
from taskbelief.render._scene import Scene


def draw(axes: Any, env: Bandit, task: Task, history: History) -> None:
    arms = np.arange(env.arms)
    axes.bar(arms, task.probabilities, color="none", edgecolor=TRUTH, linewidth=1)
    if history.actions is not None and len(history.actions):
        pulls = np.bincount(history.actions, minlength=env.arms)
        wins = np.bincount(history.actions, history.rewards, minlength=env.arms)
        axes.bar(arms, np.where(pulls, wins / np.maximum(pulls, 1), 0.0), 0.5, color=BALL)
        for arm in arms[pulls > 0]:
            axes.text(arm, 1.03, str(pulls[arm]), ha="center", fontsize=7, color=INK)
        last = history.actions[-1]
        won = history.rewards[-1] > 0
        axes.plot(last, -0.06, "^", color=LIT if won else INK, clip_on=False, markersize=8)
    axes.set_title("arms (red: hidden), share won, pulls above", loc="left", fontsize=9)
    axes.set_ylim(0, 1.12)
    axes.set_xticks([])


SCENE = Scene(draw)
