"""gymnax's Pendulum-v1 with a motor of unknown strength, which may be reversed.

    python -m experiments.run --env experiments.foreign.pendulum:pendulum --agent belief

The equation of motion has the mass in the motor's term only, 3 u / (m l^2). So the mass determines
the motor's strength, and a negative mass reverses the motor. Gravity does not change.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from gymnax.environments.classic_control.pendulum import EnvParams

import taskbelief
from taskbelief.types import Array, Key


def sample_params(key: Key) -> EnvParams:
    """Draws a mass of 0.2 to 0.6 kg, of either sign."""
    sign_key, size_key = jax.random.split(key)
    sign = jax.random.rademacher(sign_key, (), jnp.float32)
    return EnvParams(m=sign * jax.random.uniform(size_key, minval=0.2, maxval=0.6))


def describe(params: EnvParams) -> Array:
    """Returns the strength of the motor, 1/kg."""
    return 1.0 / params.m


pendulum = taskbelief.from_gymnax(
    "Pendulum-v1",
    sample_params,
    describe,
    name="pendulum",
    episode_steps=100,
    terminates=False,
    reward_scale=0.1,  # rewards are 0 to -16.3 a step
)
