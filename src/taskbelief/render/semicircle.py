"""The target on the semicircle, and the unicycle with its heading."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskbelief.envs.semicircle import Semicircle, Task
from taskbelief.posterior import Weights
from taskbelief.render import _places
from taskbelief.render._parts import INK, History, Panel
from taskbelief.render._scene import Scene


def draw(axes: Any, env: Semicircle, task: Task, history: History) -> None:
    target = np.array([np.cos(task.angle), np.sin(task.angle)])
    _places.draw(axes, target, env.target_radius, env.arena, history, jump=0.3)
    x, y = history.states.position[-1]
    heading = history.states.heading[-1]
    axes.plot([x, x + 0.14 * np.cos(heading)], [y, y + 0.14 * np.sin(heading)], color=INK, zorder=6)


def draw_posterior(
    panel: Panel, env: Semicircle, task: Task, belief: Weights, labels: np.ndarray
) -> None:
    _places.draw_ridge(panel, labels[:, 0], float(task.angle), belief.log_probs)


SCENE = Scene(draw, draw_posterior)
