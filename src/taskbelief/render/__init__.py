"""Pictures of a state, next to the learned belief and the exact posterior.

Everything here returns pixels, [height, width, 3] uint8; files are written elsewhere.
Matplotlib is imported when the first picture is drawn.

The scene of an environment is the file with its name. An environment from elsewhere draws itself
(`taskbelief.types.HasScene`); one that does not is represented by its name. Beliefs are drawn in
either case, by the family of what they are about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from taskbelief import registry
from taskbelief.posterior import Belief, Weights
from taskbelief.render import _beliefs
from taskbelief.render._beliefs import LabelBelief, Views
from taskbelief.render._parts import BALL, FAINT, INK, History, Panel, titled
from taskbelief.render._scene import Scene
from taskbelief.types import Categories, Env, HasScene, State, Task

__all__ = ["History", "LabelBelief", "Views", "film", "picture", "still"]

_INCHES, _DPI = (9.0, 4.8), 80


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
    figure.suptitle(title, x=0.04, ha="left", fontsize=12, color=INK)
    scene = scene_of(env)
    axes = titled(figure.add_subplot(grid[0, 0]), "the task (red: hidden)")
    scene.draw(axes, env, task, history)
    if views is not None:
        panel = Panel(figure, grid[0, 1], f"learned belief: {views.label}")
        _draw_learned(panel, scene, env, task, labels, views)
    if belief is not None:
        panel = Panel(figure, grid[0, columns - 1], "exact posterior")
        if views is not None and views.exact is not None and isinstance(views.spec, Categories):
            panel = panel._replace(title=f"{panel.title}: {views.label}")
            scene.draw_classes(panel, env, views.exact.mean, views)
        else:
            scene.draw_posterior(panel, env, task, belief, labels)
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


def scene_of(env: Env) -> Scene:
    """Returns the scene of the file with the name of `env`, or the environment's own, or its
    name."""
    name = registry.name_of(env)
    if name in registry.names("render"):
        return registry.find("render", name).SCENE
    return Scene(_draw_itself if isinstance(env, HasScene) else _draw_name)


def _draw_itself(axes: Any, env: HasScene, task: Task, history: History) -> None:
    env.draw(axes, task, history.states)


def _draw_name(axes: Any, env: Env, task: Task, history: History) -> None:
    axes.text(0.5, 0.5, f"{type(env).__name__} has no scene", ha="center")


def _draw_learned(
    panel: Panel, scene: Scene, env: Env, task: Task, labels: np.ndarray | None, views: Views
) -> None:
    """Draws the learned belief like the exact posterior where possible; otherwise by family."""
    learned = views.learned
    if isinstance(views.spec, Categories):
        scene.draw_classes(panel, env, learned.mean, views)
    elif learned.log_probs is not None:
        scene.draw_posterior(panel, env, task, Weights(learned.log_probs, ()), labels)
    else:
        _beliefs.draw_numbers(panel, views.spec, learned, views.truth)


def _draw_rewards(axes: Any, env: Env, rewards: np.ndarray) -> None:
    titled(axes, "reward")
    steps = np.arange(1, len(rewards) + 1)
    axes.vlines(steps, 0, rewards, color=BALL, linewidth=1.2)
    axes.set_xlim(0, env.spec.task_steps + 1)
    axes.set_ylim(0, max(1.05, float(np.max(rewards, initial=0.0)) * 1.05))
    for start in range(env.spec.episode_steps, env.spec.task_steps, env.spec.episode_steps):
        axes.axvline(start + 0.5, color=FAINT, linewidth=0.8)
