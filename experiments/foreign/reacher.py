"""Brax's reacher with a hidden target, which an arm has to search and to remember.

    python -m experiments.run --env experiments.foreign.reacher:reacher --agent belief

Brax's own reacher observes its target. This one observes the arm only, and gets a reward of 1 for
each step on which its tip is within 5 cm of the target, as in dm_control's easy reacher. An episode
begins with a stretched arm, and a task has two of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax import base
from brax.envs.reacher import Reacher

import taskbelief
from taskbelief.types import Array, Key, Reals

REACH = 0.21  # length of the arm, metres
RADIUS = 0.05  # of the target, metres


class Params(NamedTuple):
    target: Array  # [2] float32: position, metres


def sample_params(key: Key) -> Params:
    """Draws a target, uniform in the disk that the arm reaches."""
    radius_key, angle_key = jax.random.split(key)
    radius = REACH * jnp.sqrt(jax.random.uniform(radius_key))
    angle = 2 * jnp.pi * jax.random.uniform(angle_key)
    return Params(radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)]))


def describe(params: Params) -> Array:
    return params.target


class Arm(Reacher):
    """Brax's reacher, which does not observe a target."""

    def _get_obs(self, pipeline_state: base.State) -> Array:
        """Returns [8]: cosines and sines of two angles, velocity (m/s) and position (m) of the tip,
        which is 0.11 m from the elbow as in Brax's own reacher."""
        angles = pipeline_state.q[:2]
        tip = base.Transform.create(pos=jnp.array([0.11, 0.0, 0.0]))
        position = pipeline_state.x.take(1).do(tip).pos[:2]
        velocity = tip.do(pipeline_state.xd.take(1)).vel[:2]
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), velocity, position])


def reward(state: Any, action: Array, after: Any, params: Params) -> Array:
    """1 while the tip is on the target, else 0."""
    del state, action
    gap = jnp.linalg.norm(after.obs[-2:] - params.target)
    return (gap < RADIUS).astype(jnp.float32)


reacher = taskbelief.from_brax(
    Arm(backend="spring"),
    sample_params,
    describe,
    reward=reward,
    name="reacher",
    episode_steps=50,
    episodes=2,
    terminates=False,
    task=Reals(2, centre=(0.0, 0.0), scale=(REACH / 2, REACH / 2)),
)
