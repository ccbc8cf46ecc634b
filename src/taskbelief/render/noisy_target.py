"""The target, with the places of rewards."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskbelief.envs.noisy_target import NoisyTarget, Task
from taskbelief.posterior import Weights
from taskbelief.render import _places
from taskbelief.render._parts import LIT, History, Panel
from taskbelief.render._scene import Scene


def draw(axes: Any, env: NoisyTarget, task: Task, history: History) -> None:
    even = 1 / env.radius  # within this distance the probability of a reward is 0.5
    _places.draw(axes, task.target, even, env.arena, history)
    where = history.states.position[1:][history.rewards > 0]
    axes.plot(where[:, 0], where[:, 1], "o", color=LIT, markersize=4, zorder=4)


def draw_posterior(
    panel: Panel, env: NoisyTarget, task: Task, belief: Weights, labels: np.ndarray
) -> None:
    truth = float(_places.angle_of(task.target))
    _places.draw_ridge(panel, _places.angle_of(labels), truth, belief.log_probs)


SCENE = Scene(draw, draw_posterior)
