"""Beliefs by the family of what they are about; scenes can replace these pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from taskbelief.posterior import Belief, Counts
from taskbelief.render._parts import BELIEF, INK, TRUTH, Panel, as_good_as, titled
from taskbelief.types import Categories, Env, LabelSpec, Reals, Task


class LabelBelief(NamedTuple):
    """A belief about a label, as NumPy arrays; over time with a leading axis in all of them."""

    mean: np.ndarray  # E[h]; of categories the probabilities, [places, classes]
    low: np.ndarray | None = None  # the central 90 % of each number: from here
    high: np.ndarray | None = None  # to here
    log_probs: np.ndarray | None = None  # [K]: of the hypotheses of the exact posterior


class Views(NamedTuple):
    """Beliefs about the label that an agent has learnt."""

    label: str  # its name
    spec: LabelSpec
    learned: LabelBelief
    exact: LabelBelief | None = None  # None: it is not known for this label
    truth: np.ndarray | None = None  # the true label; None: it is not known


def draw_classes(panel: Panel, env: Env, probs: np.ndarray, views: Views) -> None:
    """Draws the probabilities of a label's classes as bars, [places, classes]."""
    both = [probs] if views.exact is None else [views.learned.mean, views.exact.mean]
    most = max(0.2, 1.1 * max(float(np.max(one)) for one in both))  # the same for both
    draw_bars(panel, probs, views.truth, most)


def draw_bars(panel: Panel, probs: np.ndarray, truth: np.ndarray | None, most: float = 1.0) -> None:
    """Draws `probs` [places, classes], a row of bars for each place, up to `most`."""
    for place, (axes, row) in enumerate(zip(panel.grid(len(probs), 1), probs, strict=True)):
        titled(axes, panel.title if place == 0 else "")
        axes.bar(np.arange(len(row)), row, color=BELIEF)
        if truth is not None:
            axes.plot(truth[place], -0.04 * most, "^", color=TRUTH, clip_on=False, markersize=7)
        axes.set_ylim(0, most)
        axes.set_xlim(-0.7, len(row) - 0.3)
        axes.locator_params(axis="x", integer=True)


def draw_numbers(
    panel: Panel, spec: LabelSpec, belief: LabelBelief, truth: np.ndarray | None
) -> None:
    """Draws mean and central 90 % of each number of a label."""
    axes = panel.axes(" (mean and central 90 %)")
    mean, low, high, _ = belief
    assert low is not None and high is not None
    numbers = np.arange(len(mean))
    axes.bar(numbers, high - low, 0.7, bottom=low, color=BELIEF, alpha=0.45)
    axes.plot(numbers, mean, "_", color=INK, markersize=9)
    if truth is not None:
        axes.plot(numbers, truth, "o", color=TRUTH, markersize=4)
    if isinstance(spec, Reals):
        centre, scale = np.array(spec.centre), np.array(spec.scale)
        axes.set_ylim(np.min(centre - 3 * scale), np.max(centre + 3 * scale))
    else:
        axes.set_ylim(0, 1.12)
    axes.set_xlim(-1, len(mean))
    axes.set_xticks([])


def draw_posterior(panel: Panel, env: Env, task: Task, belief: Belief, labels: np.ndarray) -> None:
    """Draws a belief about the task: arms by their Beta distributions, one number by its density,
    categories by the probability of each class, several numbers by mean and central 90 %."""
    spec, truth = env.spec.task, np.asarray(env.describe(task))
    if isinstance(belief, Counts):
        draw_numbers(panel, spec, _of_arms(belief), truth)
        return
    mass = np.exp(belief.log_probs)
    panel = panel._replace(title=panel.title + as_good_as(belief.log_probs))
    if isinstance(spec, Categories):
        draw_bars(panel, marginals(labels, mass, spec.classes), truth)
    elif labels.shape[1] > 1:
        draw_numbers(panel, spec, _of_hypotheses(labels, mass), truth)
    else:
        draw_density(panel, labels[:, 0], mass, float(truth[0]))


def draw_density(panel: Panel, values: np.ndarray, mass: np.ndarray, truth: float) -> Any:
    """Draws a belief about one number, `mass` [K] at `values` [K]; returns the axes."""
    axes, order = panel.axes(), np.argsort(values)
    axes.fill_between(values[order], mass[order] / mass.max(), color=BELIEF, step="mid")
    axes.axvline(truth, color=TRUTH, linewidth=1.5)
    axes.set_xlim(values.min(), values.max())
    axes.set_ylim(0, 1.05)
    axes.set_yticks([])
    return axes


def marginals(labels: np.ndarray, mass: np.ndarray, classes: int) -> np.ndarray:
    """Returns the probability of each class at each place, [places, classes], of hypotheses with
    `labels` [K, places] and `mass` [K]."""
    return np.stack([np.bincount(label, mass, minlength=classes) for label in labels.T])


def _of_arms(belief: Counts) -> LabelBelief:
    from scipy import stats

    beta = stats.beta(1 + belief.wins, 1 + belief.losses)
    return LabelBelief(beta.mean(), beta.ppf(0.05), beta.ppf(0.95))


def _of_hypotheses(labels: np.ndarray, mass: np.ndarray) -> LabelBelief:
    """Weighs hypotheses with `labels` [K, num] by `mass` [K]."""
    order = np.argsort(labels, axis=0)
    below = np.cumsum(mass[order], axis=0)  # [K, num], of the sorted values
    values = np.take_along_axis(labels, order, axis=0)

    def quantile(share: float) -> np.ndarray:
        first = np.argmax(below >= share, axis=0)
        return np.take_along_axis(values, first[None], axis=0)[0]

    return LabelBelief(mass @ labels, quantile(0.05), quantile(0.95))
