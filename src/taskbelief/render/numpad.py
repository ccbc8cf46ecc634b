"""Pads on a floor, with the number of each press; beliefs as pad floors."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from taskbelief.envs.numpad import Numpad, Task
from taskbelief.posterior import Weights
from taskbelief.render import _beliefs
from taskbelief.render._beliefs import Views
from taskbelief.render._parts import (
    FAINT,
    INK,
    LIT,
    TRUTH,
    History,
    Panel,
    as_good_as,
    floor,
    titled,
    trail,
)
from taskbelief.render._scene import Scene


def draw(axes: Any, env: Numpad, task: Task, history: History) -> None:
    from matplotlib.patches import FancyBboxPatch

    state = jax.tree.map(lambda leaf: leaf[-1], history.states)
    lit = set(task.sequence[: state.progress].tolist())
    wanted = int(task.sequence[state.progress])
    half = env.pad_half_width - 0.04
    floor(axes, env.size / 2)
    for pad in range(env.size**2):
        x, y = pad % env.size - (env.size - 1) / 2, pad // env.size - (env.size - 1) / 2
        axes.add_patch(
            FancyBboxPatch(
                (x - half, y - half),
                2 * half,
                2 * half,
                boxstyle="round,pad=0.04",
                facecolor=LIT if pad in lit else "#dfe5ea",
                edgecolor=TRUTH if pad == wanted else FAINT,
                linewidth=2 if pad == wanted else 0.8,
            )
        )
        places = [str(i + 1) for i, p in enumerate(task.sequence) if p == pad]
        axes.text(x, y, "".join(places), ha="center", va="center", color=TRUTH, fontsize=10)
    trail(axes, history.states.position)


def draw_posterior(
    panel: Panel, env: Numpad, task: Task, belief: Weights, labels: np.ndarray
) -> None:
    """Draws the probability of each pad, for each place of the sequence."""
    probs = _beliefs.marginals(labels, np.exp(belief.log_probs), env.size**2)
    equal = as_good_as(belief.log_probs, "sequences")
    _draw_floors(panel._replace(title=panel.title + equal), env, probs, task.sequence)


def draw_classes(panel: Panel, env: Numpad, probs: np.ndarray, views: Views) -> None:
    """Draws a label of pads as floors, another one as bars."""
    if probs.shape[1] == env.size**2:
        _draw_floors(panel, env, probs, views.truth)
    else:
        _beliefs.draw_classes(panel, env, probs, views)


def _draw_floors(panel: Panel, env: Numpad, probs: np.ndarray, truth: np.ndarray | None) -> None:
    """Draws a small pad floor for each of `probs`, [places, pads], with the true pads framed."""
    columns = int(np.ceil(np.sqrt(len(probs))))
    every = panel.grid(int(np.ceil(len(probs) / columns)), columns, wspace=0.1, hspace=0.3)
    for place, marginal in enumerate(probs):
        axes = titled(every[place], f"press {place + 1}" if len(probs) > 1 else panel.title)
        floor(axes, env.size / 2)
        wall = env.size / 2
        axes.imshow(
            marginal.reshape(env.size, env.size),
            origin="lower",
            extent=(-wall, wall, -wall, wall),
            cmap="BuGn",
            vmin=0,
            vmax=1,
        )
        if truth is not None:
            x, y = truth[place] % env.size - wall, truth[place] // env.size - wall
            across, up = [x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y]
            axes.plot(across, up, color=TRUTH, linewidth=1.5, zorder=5)
    for axes in every[len(probs) :]:
        axes.set_axis_off()
    if len(probs) > 1:
        box = panel.cell.get_position(panel.figure)
        panel.figure.text(box.x0, box.y1 + 0.05, panel.title, fontsize=9, color=INK)


SCENE = Scene(draw, draw_posterior, draw_classes)
