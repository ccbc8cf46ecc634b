"""Parts of environments whose task is a place on the unit semicircle."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskbelief.render._parts import (
    BELIEF,
    FAINT,
    INK,
    LIT,
    TRUTH,
    History,
    Panel,
    as_good_as,
    floor,
    trail,
)


def draw(
    axes: Any,
    target: np.ndarray,
    reach: float,
    wall: float,
    history: History,
    jump: float = np.inf,
) -> None:
    """Draws a floor with the semicircle, the target with its `reach`, lit after a reward, and the
    path, with gaps where a step is longer than `jump`. Lengths are in radii of the semicircle."""
    from matplotlib.patches import Circle

    floor(axes, wall)
    axes.set_ylim(-0.45 * wall, 1.05 * wall)
    angle = np.linspace(0, np.pi, 100)
    axes.plot(np.cos(angle), np.sin(angle), color=FAINT, linewidth=1, linestyle="--")
    rewarded = len(history.rewards) > 0 and history.rewards[-1] > 0
    axes.add_patch(
        Circle(
            tuple(target),
            reach,
            facecolor=LIT if rewarded else "none",
            edgecolor=TRUTH,
            linewidth=1.5,
        )
    )
    trail(axes, history.states.position, jump)


def draw_ridge(panel: Panel, angle: np.ndarray, truth: float, log_probs: np.ndarray) -> None:
    """Draws a ridge over the semicircle, whose height is the probability of each hypothesis, at
    `angle` [K] in radians; `truth`: the true angle."""
    axes = panel.axes(as_good_as(log_probs))
    mass = np.exp(log_probs)
    height = 1 + 0.5 * mass / mass.max()
    axes.fill(
        np.concatenate([np.cos(angle) * height, np.cos(angle[::-1])]),
        np.concatenate([np.sin(angle) * height, np.sin(angle[::-1])]),
        color=BELIEF,
        linewidth=0.5,
    )
    axes.plot(np.cos(angle), np.sin(angle), color=INK, linewidth=1)
    reach = np.array([0.9, 1.58])
    axes.plot(reach * np.cos(truth), reach * np.sin(truth), color=TRUTH, linewidth=1.5)
    mean = mass @ np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    axes.plot(*mean, "x", color=BELIEF, markersize=7)
    axes.text(mean[0], mean[1] - 0.14, "mean", ha="center", fontsize=7, color=BELIEF)
    axes.set_xlim(-1.7, 1.7)
    axes.set_ylim(-0.15, 1.7)
    axes.set_aspect("equal")
    axes.set_axis_off()


def angle_of(place: np.ndarray) -> np.ndarray:
    """Returns the angles of `place` [..., 2], in radians, [...]."""
    return np.arctan2(place[..., 1], place[..., 0])
