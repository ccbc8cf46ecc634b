"""The goal on the semicircle, and the path of all episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskbelief.envs.sparse_navigation import SparseNavigation, Task
from taskbelief.posterior import Weights
from taskbelief.render import _places
from taskbelief.render._parts import History, Panel
from taskbelief.render._scene import Scene

_WALL = 1.5  # half the side of what is shown; the environment has no walls


def draw(axes: Any, env: SparseNavigation, task: Task, history: History) -> None:
    _places.draw(axes, task.goal, env.goal_radius, _WALL, history, jump=0.3)


def draw_posterior(
    panel: Panel, env: SparseNavigation, task: Task, belief: Weights, labels: np.ndarray
) -> None:
    truth = float(_places.angle_of(task.goal))
    _places.draw_ridge(panel, _places.angle_of(labels), truth, belief.log_probs)


SCENE = Scene(draw, draw_posterior)
