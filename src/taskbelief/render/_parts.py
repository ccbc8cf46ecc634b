"""Parts that scenes share: colours, panels, a floor with a trail."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from taskbelief.types import State

INK, FAINT, FLOOR = "#1f2933", "#c9d2da", "#f4f6f8"
BALL, TRUTH, LIT, BELIEF = "#1769aa", "#d1495b", "#f2b134", "#2a9d8f"


class History(NamedTuple):
    """One meta-episode up to now, as NumPy arrays."""

    states: State  # [t + 1, ...]
    actions: np.ndarray | None  # [t, ...]
    rewards: np.ndarray  # [t]


class Panel(NamedTuple):
    """A free part of a figure."""

    figure: Any
    cell: Any  # of a grid of the figure
    title: str

    def axes(self, more: str = "") -> Any:
        """Returns axes that fill the panel; `more` continues its title."""
        return titled(self.figure.add_subplot(self.cell), self.title + more)

    def grid(self, rows: int, columns: int, **spaces: float) -> list[Any]:
        """Returns axes without titles, row by row."""
        grid = self.cell.subgridspec(rows, columns, **spaces)
        places = [(row, column) for row in range(rows) for column in range(columns)]
        return [self.figure.add_subplot(grid[place]) for place in places]


def titled(axes: Any, title: str) -> Any:
    """Returns `axes` with a title, in the style of all panels."""
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.tick_params(labelsize=7, colors=INK, length=2)
    for side in axes.spines.values():
        side.set_color(FAINT)
    return axes


def floor(axes: Any, wall: float) -> None:
    """Turns `axes` into a square floor with walls at this distance from its centre."""
    axes.set_xlim(-wall, wall)
    axes.set_ylim(-wall, wall)
    axes.set_aspect("equal")
    axes.set_facecolor(FLOOR)
    axes.set_xticks([])
    axes.set_yticks([])


def trail(axes: Any, positions: np.ndarray, jump: float = np.inf) -> None:
    """Draws the path to the last of `positions`, [t + 1, 2], fading, with gaps at jumps."""
    from matplotlib.collections import LineCollection

    pieces = np.stack([positions[:-1], positions[1:]], axis=1)
    kept = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=-1) < jump
    if kept.any():
        age = np.arange(len(pieces), 0, -1)
        alpha = np.maximum(0.12, np.exp(-age / 15))
        axes.add_collection(
            LineCollection(list(pieces[kept]), colors=BALL, alpha=alpha[kept], linewidths=2)
        )
    axes.plot(*positions[-1], "o", color=BALL, markersize=9, markeredgecolor="white", zorder=5)


def as_good_as(log_probs: np.ndarray, what: str = "hypotheses") -> str:
    """Returns the entropy of a belief, `log_probs` [K], as a number of equal hypotheses."""
    entropy: float = -np.sum(np.exp(log_probs) * log_probs)
    return f", as good as {np.exp(entropy):.0f} equal {what} of {len(log_probs)}"
