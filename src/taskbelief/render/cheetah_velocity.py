"""The body of the half-cheetah, its speed and the speed that is wanted."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from taskbelief.envs.cheetah_velocity import CheetahVelocity, Task
from taskbelief.posterior import Weights
from taskbelief.render import _beliefs
from taskbelief.render._parts import BALL, FLOOR, INK, TRUTH, History, Panel, as_good_as
from taskbelief.render._scene import Scene


def draw(axes: Any, env: CheetahVelocity, task: Task, history: History) -> None:
    body = jax.tree.map(lambda leaf: leaf[-1], history.states.body)
    ends, widths = outline(env.backend, body.pipeline_state)
    x = float(body.pipeline_state.x.pos[0, 0])
    for end, width in zip(ends, widths, strict=True):
        axes.plot(end[:, 0], end[:, 2], color=BALL, linewidth=120 * width, solid_capstyle="round")
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xlim(x - 1.3, x + 1.3)
    axes.set_ylim(-0.25, 1.6)
    axes.set_aspect("equal")
    axes.set_facecolor(FLOOR)
    axes.set_yticks([])
    speed, wanted = float(body.obs[8]), float(task.speed)
    axes.set_title(f"speed {speed:+.1f} m/s (red: wanted {wanted:.1f})", loc="left", fontsize=9)
    for height, value, color in ((1.4, wanted, TRUTH), (1.25, speed, BALL)):
        arrow = {"arrowstyle": "->", "color": color}
        axes.annotate("", (x + 0.3 * value, height), (x, height), arrowprops=arrow)


def draw_posterior(
    panel: Panel, env: CheetahVelocity, task: Task, belief: Weights, labels: np.ndarray
) -> None:
    panel = panel._replace(title=panel.title + as_good_as(belief.log_probs))
    axes = _beliefs.draw_density(panel, labels[:, 0], np.exp(belief.log_probs), float(task.speed))
    axes.set_xlim(env.slowest, env.fastest)
    axes.set_xlabel("target speed, m/s", fontsize=8)


def outline(backend: str, pose: Any) -> tuple[np.ndarray, np.ndarray]:
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


SCENE = Scene(draw, draw_posterior)
