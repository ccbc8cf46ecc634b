"""Brax's half-cheetah, which has to run forwards or backwards, with motors of unknown strength.

    python -m experiments.run --env experiments.foreign.cheetah:cheetah --agent belief \\
        --agent.policy_hidden 64

It is the field's half-cheetah direction task (Finn et al. 2017), except for the motors: there are
only two directions, and motors of different strength provide tasks to hold out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax import envs

import taskbelief
from taskbelief.types import Array, Key


class Params(NamedTuple):
    direction: Array  # [] float32: 1 forwards, -1 backwards
    strength: Array  # [] float32: of all motors, 1 is Brax's own


def sample_params(key: Key) -> Params:
    direction_key, strength_key = jax.random.split(key)
    return Params(
        jax.random.rademacher(direction_key, (), jnp.float32),
        jax.random.uniform(strength_key, minval=0.8, maxval=1.2),
    )


def describe(params: Params) -> Array:
    return jnp.stack(params)


def system(sys: Any, params: Params) -> Any:
    return sys.replace(actuator=sys.actuator.replace(gear=params.strength * sys.actuator.gear))


def reward(state: Any, action: Array, after: Any, params: Params) -> Array:
    """Velocity in the hidden direction, m/s, minus Brax's cost of control."""
    return params.direction * after.metrics["x_velocity"] + after.metrics["reward_ctrl"]


cheetah = taskbelief.from_brax(
    # half of Brax's physics steps per action: half of the simulated time and of the computation
    envs.get_environment("halfcheetah", backend="spring", n_frames=8),
    sample_params,
    describe,
    system=system,
    reward=reward,
    name="cheetah",
    episode_steps=100,
    terminates=False,
)
