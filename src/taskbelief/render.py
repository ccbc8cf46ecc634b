"""Pictures of a state, next to the learned belief and the exact posterior.

Everything here returns pixels, [height, width, 3] uint8; files are written elsewhere.
Matplotlib is imported when the first picture is drawn. An environment without
a scene in `_SCENES` is represented by its name; beliefs about its labels are drawn anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from taskbelief.envs.bandit import Bandit
from taskbelief.envs.cheetah_velocity import CheetahVelocity
from taskbelief.envs.noisy_target import NoisyTarget
from taskbelief.envs.numpad import Numpad
from taskbelief.envs.semicircle import Semicircle
from taskbelief.envs.sparse_navigation import SparseNavigation
from taskbelief.posterior import Belief, Weights
from taskbelief.types import Categories, Env, LabelSpec, Reals, State, Task

_INK, _FAINT, _FLOOR = "#1f2933", "#c9d2da", "#f4f6f8"
_BALL, _TRUTH, _LIT, _BELIEF = "#1769aa", "#d1495b", "#f2b134", "#2a9d8f"
_INCHES, _DPI = (9.0, 4.8), 80


class History(NamedTuple):
    """One meta-episode up to now, as NumPy arrays."""

    states: State  # [t + 1, ...]
    actions: np.ndarray | None  # [t, ...]
    rewards: np.ndarray  # [t]


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


def picture(
    env: Env,
    task: Task,
    states: State,
    rewards: np.ndarray,
    actions: np.ndarray | None = None,
    belief: Belief | None = None,
    labels: np.ndarray | None = None,
    title: str = "",
    views: Views | None = None,
) -> np.ndarray:
    """Draws the last of `states` and the path to it, next to beliefs.

    Args:
      env: the environment.
      task: the true task, drawn in red.
      states: [t + 1, ...], from the first of the meta-episode to the current one.
      rewards: [t].
      actions: [t, ...], where known (the bandit's pulls are drawn from them).
      belief: the current one of an exact posterior (`posterior.make(env)`).
      labels: the posterior's `labels`.
      title: text above the picture.
      views: a learned belief, drawn between state and posterior.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    states, task, belief = jax.tree.map(np.asarray, (states, task, belief))
    history = History(states, actions, np.asarray(rewards))
    columns = 2 if views is None or belief is None else 3
    width, height = _INCHES
    figure = Figure(figsize=(width * columns / 2, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, columns, height_ratios=(9, 2), left=0.04, right=0.98, top=0.86, bottom=0.1, hspace=0.3
    )
    figure.suptitle(title, x=0.04, ha="left", fontsize=12, color=_INK)
    arena, believe = _SCENES.get(type(env), (_draw_nothing, _believe_nothing))
    arena(_panel(figure.add_subplot(grid[0, 0]), "the task (red: hidden)"), env, task, history)
    if views is not None:
        _draw_learned(figure, grid[0, 1], env, task, labels, views)
    if belief is not None:
        place = grid[0, columns - 1]
        if views is not None and views.exact is not None and isinstance(views.spec, Categories):
            _draw_classes(figure, place, env, f"{_EXACT}: {views.label}", views.exact, views)
        else:
            believe(figure, place, env, task, belief, labels, _EXACT)
    _draw_rewards(figure.add_subplot(grid[1, :]), env, history.rewards)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def still(
    env: Env,
    task: Task,
    states: State,
    actions: np.ndarray,
    rewards: np.ndarray,
    beliefs: Belief | None = None,
    labels: np.ndarray | None = None,
    views: Views | None = None,
    *,
    title: str = "",
    step: int,
) -> np.ndarray:
    """Draws the picture after `step` steps of a whole history: states and beliefs [T + 1, ...]."""
    now = None
    if views is not None:
        learned, exact, truth = jax.tree.map(lambda leaf: leaf[step], views[2:])
        now = Views(views.label, views.spec, learned, exact, truth)
    return picture(
        env,
        task,
        jax.tree.map(lambda leaf: leaf[: step + 1], states),
        rewards[:step],
        actions[:step],
        jax.tree.map(lambda leaf: leaf[step], beliefs),
        labels,
        f"{title}   step {step} of {len(rewards)}, return {float(np.sum(rewards[:step])):.1f}",
        now,
    )


def film(*whole: Any, title: str = "", every: int = 1) -> Iterator[np.ndarray]:
    """Yields the stills of each `every`-th step and of the last; `whole`: arguments of `still`."""
    steps = len(whole[4])
    for step in sorted({*range(0, steps + 1, every), steps}):
        yield still(*whole, title=title, step=step)


# ---- common parts -----------------------------------------------------------------


def _panel(axes: Any, title: str) -> Any:
    axes.set_title(title, loc="left", fontsize=9, color=_INK)
    axes.tick_params(labelsize=7, colors=_INK, length=2)
    for side in axes.spines.values():
        side.set_color(_FAINT)
    return axes


def _draw_rewards(axes: Any, env: Env, rewards: np.ndarray) -> None:
    _panel(axes, "reward")
    steps = np.arange(1, len(rewards) + 1)
    axes.vlines(steps, 0, rewards, color=_BALL, linewidth=1.2)
    axes.set_xlim(0, env.spec.task_steps + 1)
    axes.set_ylim(0, max(1.05, float(np.max(rewards, initial=0.0)) * 1.05))
    for start in range(env.spec.episode_steps, env.spec.task_steps, env.spec.episode_steps):
        axes.axvline(start + 0.5, color=_FAINT, linewidth=0.8)


def _floor(axes: Any, wall: float) -> None:
    axes.set_xlim(-wall, wall)
    axes.set_ylim(-wall, wall)
    axes.set_aspect("equal")
    axes.set_facecolor(_FLOOR)
    axes.set_xticks([])
    axes.set_yticks([])


def _trail(axes: Any, positions: np.ndarray, jump: float = np.inf) -> None:
    """Draws the path to the last of `positions`, [t + 1, 2], fading, with gaps at jumps."""
    from matplotlib.collections import LineCollection

    pieces = np.stack([positions[:-1], positions[1:]], axis=1)
    kept = np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=-1) < jump
    if kept.any():
        age = np.arange(len(pieces), 0, -1)
        alpha = np.maximum(0.12, np.exp(-age / 15))
        axes.add_collection(
            LineCollection(list(pieces[kept]), colors=_BALL, alpha=alpha[kept], linewidths=2)
        )
    axes.plot(*positions[-1], "o", color=_BALL, markersize=9, markeredgecolor="white", zorder=5)


_EXACT, _LEARNED = "exact posterior", "learned belief"


def _entropy(whose: str, log_probs: np.ndarray) -> str:
    entropy: float = -np.sum(np.exp(log_probs) * log_probs)
    return f"{whose}, as good as {np.exp(entropy):.0f} equal hypotheses"


# ---- learned beliefs --------------------------------------------------------------


def _draw_learned(
    figure: Any, cell: Any, env: Env, task: Any, labels: np.ndarray | None, views: Views
) -> None:
    """Draws the learned belief like the exact posterior where possible; otherwise by family."""
    name, learned = f"{_LEARNED}: {views.label}", views.learned
    if isinstance(views.spec, Categories):
        _draw_classes(figure, cell, env, name, learned, views)
    elif learned.log_probs is not None:
        _, believe = _SCENES.get(type(env), (_draw_nothing, _believe_nothing))
        believe(figure, cell, env, task, Weights(learned.log_probs, ()), labels, name)
    else:
        _draw_numbers(figure, cell, name, views)


def _draw_classes(
    figure: Any, cell: Any, env: Env, name: str, believed: LabelBelief, views: Views
) -> None:
    """Draws probabilities of classes, [places, classes]: as pad floors on numpad, else as bars."""
    probs, truth = believed.mean, views.truth
    assert isinstance(views.spec, Categories)
    if isinstance(env, Numpad) and probs.shape[1] == env.size**2:
        _draw_floors(figure, cell, env, name, probs, truth)
        return
    grid = cell.subgridspec(len(probs), 1)
    both = [probs] if views.exact is None else [views.learned.mean, views.exact.mean]
    most = max(0.2, 1.1 * max(float(np.max(one)) for one in both))  # the same for both
    for place, row in enumerate(probs):
        axes = figure.add_subplot(grid[place, 0])
        _panel(axes, name if place == 0 else "")
        axes.bar(np.arange(len(row)), row, color=_BELIEF)
        if truth is not None:
            axes.plot(truth[place], -0.04 * most, "^", color=_TRUTH, clip_on=False, markersize=7)
        axes.set_ylim(0, most)
        axes.set_xlim(-0.7, len(row) - 0.3)
        axes.locator_params(axis="x", integer=True)


def _draw_numbers(figure: Any, cell: Any, name: str, views: Views) -> None:
    """Draws mean and central 90 % of each number of a label."""
    axes = _panel(figure.add_subplot(cell), f"{name} (mean and central 90 %)")
    mean, low, high, _ = views.learned
    assert low is not None and high is not None
    numbers = np.arange(len(mean))
    axes.bar(numbers, high - low, 0.7, bottom=low, color=_BELIEF, alpha=0.45)
    axes.plot(numbers, mean, "_", color=_INK, markersize=9)
    if views.truth is not None:
        axes.plot(numbers, views.truth, "o", color=_TRUTH, markersize=4)
    if isinstance(views.spec, Reals):
        centre, scale = np.array(views.spec.centre), np.array(views.spec.scale)
        axes.set_ylim(np.min(centre - 3 * scale), np.max(centre + 3 * scale))
    else:
        axes.set_ylim(0, 1.12)
    axes.set_xlim(-1, len(mean))
    axes.set_xticks([])


# ---- numpad -----------------------------------------------------------------------


def _draw_numpad(axes: Any, env: Numpad, task: Any, history: History) -> None:
    from matplotlib.patches import FancyBboxPatch

    state = jax.tree.map(lambda leaf: leaf[-1], history.states)
    lit = set(task.sequence[: state.progress].tolist())
    wanted = int(task.sequence[state.progress])
    half = env.pad_half_width - 0.04
    _floor(axes, env.size / 2)
    for pad in range(env.size**2):
        x, y = pad % env.size - (env.size - 1) / 2, pad // env.size - (env.size - 1) / 2
        axes.add_patch(
            FancyBboxPatch(
                (x - half, y - half),
                2 * half,
                2 * half,
                boxstyle="round,pad=0.04",
                facecolor=_LIT if pad in lit else "#dfe5ea",
                edgecolor=_TRUTH if pad == wanted else _FAINT,
                linewidth=2 if pad == wanted else 0.8,
            )
        )
        places = [str(i + 1) for i, p in enumerate(task.sequence) if p == pad]
        axes.text(x, y, "".join(places), ha="center", va="center", color=_TRUTH, fontsize=10)
    _trail(axes, history.states.position)


def _believe_numpad(
    figure: Any, cell: Any, env: Numpad, task: Any, belief: Any, labels: np.ndarray, whose: str
) -> None:
    """Draws the probability of each pad, for each place of the sequence."""
    mass = np.exp(belief.log_probs)
    probs = [
        np.bincount(labels[:, place], mass, minlength=env.size**2) for place in range(env.length)
    ]
    equal = np.exp(-np.sum(mass * belief.log_probs))
    name = f"{whose}, as good as {equal:.0f} equal sequences of {len(mass)}"
    _draw_floors(figure, cell, env, name, np.stack(probs), task.sequence)


def _draw_floors(
    figure: Any, cell: Any, env: Numpad, name: str, probs: np.ndarray, truth: np.ndarray | None
) -> None:
    """Draws a small pad floor for each of `probs`, [places, pads], with the true pads framed."""
    columns = int(np.ceil(np.sqrt(len(probs))))
    grid = cell.subgridspec(int(np.ceil(len(probs) / columns)), columns, wspace=0.1, hspace=0.3)
    for place, marginal in enumerate(probs):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        _panel(axes, f"press {place + 1}" if len(probs) > 1 else name)
        _floor(axes, env.size / 2)
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
            axes.plot(across, up, color=_TRUTH, linewidth=1.5, zorder=5)
    if len(probs) > 1:
        box = cell.get_position(figure)
        figure.text(box.x0, box.y1 + 0.05, name, fontsize=9, color=_INK)


# ---- places on a semicircle -------------------------------------------------------


def _draw_places(axes: Any, env: Any, task: Any, history: History) -> None:
    from matplotlib.patches import Circle

    if isinstance(env, Semicircle):
        target, reach = (np.cos(task.angle), np.sin(task.angle)), env.target_radius
        wall, jump = env.arena, 0.3
    elif isinstance(env, SparseNavigation):
        target, reach, wall, jump = task.goal, env.goal_radius, 1.5, 0.3
    else:  # within this distance of a noisy target the probability is 0.5
        target, reach, wall, jump = task.target, 1 / env.radius, env.arena, np.inf
    _floor(axes, wall)
    axes.set_ylim(-0.45 * wall, 1.05 * wall)
    angle = np.linspace(0, np.pi, 100)
    axes.plot(np.cos(angle), np.sin(angle), color=_FAINT, linewidth=1, linestyle="--")
    rewarded = len(history.rewards) > 0 and history.rewards[-1] > 0
    axes.add_patch(
        Circle(
            target, reach, facecolor=_LIT if rewarded else "none", edgecolor=_TRUTH, linewidth=1.5
        )
    )
    positions = history.states.position
    if isinstance(env, NoisyTarget):  # positions of rewards
        where = positions[1:][history.rewards > 0]
        axes.plot(where[:, 0], where[:, 1], "o", color=_LIT, markersize=4, zorder=4)
    _trail(axes, positions, jump)
    if isinstance(env, Semicircle):
        x, y = positions[-1]
        heading = history.states.heading[-1]
        axes.plot(
            [x, x + 0.14 * np.cos(heading)], [y, y + 0.14 * np.sin(heading)], color=_INK, zorder=6
        )


def _believe_places(
    figure: Any, cell: Any, env: Any, task: Any, belief: Any, labels: np.ndarray, whose: str
) -> None:
    """Draws a ridge over the semicircle, whose height is the probability of each hypothesis."""
    axes = _panel(figure.add_subplot(cell), _entropy(whose, belief.log_probs))
    if isinstance(env, Semicircle):
        angle, truth = labels[:, 0], float(task.angle)
    else:
        angle = np.arctan2(labels[:, 1], labels[:, 0])
        place = task.goal if isinstance(env, SparseNavigation) else task.target
        truth = float(np.arctan2(place[1], place[0]))
    mass = np.exp(belief.log_probs)
    height = 1 + 0.5 * mass / mass.max()
    axes.fill(
        np.concatenate([np.cos(angle) * height, np.cos(angle[::-1])]),
        np.concatenate([np.sin(angle) * height, np.sin(angle[::-1])]),
        color=_BELIEF,
        linewidth=0.5,
    )
    axes.plot(np.cos(angle), np.sin(angle), color=_INK, linewidth=1)
    reach = np.array([0.9, 1.58])
    axes.plot(reach * np.cos(truth), reach * np.sin(truth), color=_TRUTH, linewidth=1.5)
    mean = mass @ np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    axes.plot(*mean, "x", color=_BELIEF, markersize=7)
    axes.text(mean[0], mean[1] - 0.14, "mean", ha="center", fontsize=7, color=_BELIEF)
    axes.set_xlim(-1.7, 1.7)
    axes.set_ylim(-0.15, 1.7)
    axes.set_aspect("equal")
    axes.set_axis_off()


# ---- bandit -----------------------------------------------------------------------


def _draw_bandit(axes: Any, env: Bandit, task: Any, history: History) -> None:
    arms = np.arange(env.arms)
    axes.bar(arms, task.probabilities, color="none", edgecolor=_TRUTH, linewidth=1)
    if history.actions is not None and len(history.actions):
        pulls = np.bincount(history.actions, minlength=env.arms)
        wins = np.bincount(history.actions, history.rewards, minlength=env.arms)
        axes.bar(arms, np.where(pulls, wins / np.maximum(pulls, 1), 0.0), 0.5, color=_BALL)
        for arm in arms[pulls > 0]:
            axes.text(arm, 1.03, str(pulls[arm]), ha="center", fontsize=7, color=_INK)
        last = history.actions[-1]
        won = history.rewards[-1] > 0
        axes.plot(last, -0.06, "^", color=_LIT if won else _INK, clip_on=False, markersize=8)
    axes.set_title("arms (red: hidden), share won, pulls above", loc="left", fontsize=9)
    axes.set_ylim(0, 1.12)
    axes.set_xticks([])


def _believe_bandit(
    figure: Any, cell: Any, env: Bandit, task: Any, belief: Any, labels: Any, whose: str
) -> None:
    """Draws the Beta distribution of each arm: its mean and its central 90 %."""
    from scipy import stats

    axes = _panel(figure.add_subplot(cell), f"{whose}: mean and central 90 % of each arm")
    beta = stats.beta(1 + belief.wins, 1 + belief.losses)
    arms, low, high = np.arange(env.arms), beta.ppf(0.05), beta.ppf(0.95)
    axes.bar(arms, high - low, 0.7, bottom=low, color=_BELIEF, alpha=0.45)
    axes.plot(arms, beta.mean(), "_", color=_INK, markersize=9)
    axes.plot(arms, task.probabilities, "o", color=_TRUTH, markersize=4)
    axes.set_ylim(0, 1.12)
    axes.set_xticks([])


# ---- half-cheetah -----------------------------------------------------------------


def _draw_cheetah(axes: Any, env: CheetahVelocity, task: Any, history: History) -> None:
    body = jax.tree.map(lambda leaf: leaf[-1], history.states.body)
    ends, widths = _outline(env.backend, body.pipeline_state)
    x = float(body.pipeline_state.x.pos[0, 0])
    for end, width in zip(ends, widths, strict=True):
        axes.plot(end[:, 0], end[:, 2], color=_BALL, linewidth=120 * width, solid_capstyle="round")
    axes.axhline(0, color=_INK, linewidth=1)
    axes.set_xlim(x - 1.3, x + 1.3)
    axes.set_ylim(-0.25, 1.6)
    axes.set_aspect("equal")
    axes.set_facecolor(_FLOOR)
    axes.set_yticks([])
    axes.set_title(
        f"speed {body.obs[8]:+.1f} m/s (red: wanted {float(task.speed):.1f})",
        loc="left",
        fontsize=9,
    )
    axes.annotate(
        "",
        (x + 0.3 * float(task.speed), 1.4),
        (x, 1.4),
        arrowprops={"arrowstyle": "->", "color": _TRUTH},
    )
    axes.annotate(
        "",
        (x + 0.3 * float(body.obs[8]), 1.25),
        (x, 1.25),
        arrowprops={"arrowstyle": "->", "color": _BALL},
    )


def _outline(backend: str, pose: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns both ends of each capsule of the body, [n, 2, 3], and their radii, [n], metres."""
    from brax import envs

    body: Any = envs.get_environment("halfcheetah", backend=backend)
    model = body.sys
    capsule = np.asarray(model.geom_type) == 3
    link = np.asarray(model.geom_bodyid)[capsule] - 1
    centre, turn, size = (
        np.asarray(leaf)[capsule] for leaf in (model.geom_pos, model.geom_quat, model.geom_size)
    )
    along = np.stack([-size[:, 1], size[:, 1]], axis=1)[..., None] * [0.0, 0.0, 1.0]
    ends = centre[:, None] + _rotate(turn[:, None], along)
    return pose.x.pos[link][:, None] + _rotate(pose.x.rot[link][:, None], ends), size[:, 0]


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotates `vector` [..., 3] by a unit quaternion [..., 4], real part first."""
    real, axis = quaternion[..., :1], quaternion[..., 1:]
    across = 2 * np.cross(axis, vector)
    return vector + real * across + np.cross(axis, across)


def _believe_cheetah(
    figure: Any,
    cell: Any,
    env: CheetahVelocity,
    task: Any,
    belief: Any,
    labels: np.ndarray,
    whose: str,
) -> None:
    axes = _panel(figure.add_subplot(cell), _entropy(whose, belief.log_probs))
    mass = np.exp(belief.log_probs)
    axes.fill_between(labels[:, 0], mass / mass.max(), color=_BELIEF, step="mid")
    axes.axvline(float(task.speed), color=_TRUTH, linewidth=1.5)
    axes.set_xlim(env.slowest, env.fastest)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([])
    axes.set_xlabel("target speed, m/s", fontsize=8)


# ---- which scene is whose ---------------------------------------------------------


def _draw_nothing(axes: Any, env: Env, task: Any, history: History) -> None:
    axes.text(0.5, 0.5, f"{type(env).__name__} has no scene", ha="center")


def _believe_nothing(*_: Any) -> None:
    pass


_SCENES: dict[type, tuple[Any, Any]] = {
    Bandit: (_draw_bandit, _believe_bandit),
    CheetahVelocity: (_draw_cheetah, _believe_cheetah),
    NoisyTarget: (_draw_places, _believe_places),
    Numpad: (_draw_numpad, _believe_numpad),
    Semicircle: (_draw_places, _believe_places),
    SparseNavigation: (_draw_places, _believe_places),
}
