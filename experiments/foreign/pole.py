"""Brax's inverted pendulum with a motor of unknown strength, which may be reversed.

    python -m experiments.run --env experiments.foreign.pole:pole --agent belief

An episode begins with a tilted pole, which falls if nothing is done, and sooner if the cart is
driven the wrong way. Where it falls, another episode of the same task begins. The observation is
Brax's own: position (m) of the cart, angle (rad) of the pole, and their rates per second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax.envs.base import State
from brax.envs.inverted_pendulum import InvertedPendulum

import taskbelief
from taskbelief.types import Array, Key

TILT = 0.1  # the largest at the start, rad; the pole has fallen at 0.2
FALL = 10.0  # the cost of a fall, in steps upright


class Params(NamedTuple):
    motor: Array  # [] float32: the force in units of Brax's own; < 0: reversed


def sample_params(key: Key) -> Params:
    """Draws a strength of 0.3 to 1, of either sign."""
    sign_key, size_key = jax.random.split(key)
    sign = jax.random.rademacher(sign_key, (), jnp.float32)
    return Params(sign * jax.random.uniform(size_key, minval=0.3, maxval=1.0))


def describe(params: Params) -> Array:
    """Returns the strength of the motor, in units of Brax's own, [] float32."""
    return params.motor


class TiltedPole(InvertedPendulum):
    """Brax's inverted pendulum with the pole at up to `TILT` from the vertical."""

    def reset(self, rng: Key) -> State:
        rest_key, tilt_key = jax.random.split(rng)
        state = super().reset(rest_key)
        tilt = jax.random.uniform(tilt_key, minval=-TILT, maxval=TILT)
        pipeline_state = self.pipeline_init(
            state.pipeline_state.q.at[1].set(tilt), state.pipeline_state.qd
        )
        return state.replace(pipeline_state=pipeline_state, obs=self._get_obs(pipeline_state))


def system(sys: Any, params: Params) -> Any:
    """Returns the body with the motor of `params`."""
    return sys.replace(actuator=sys.actuator.replace(gear=sys.actuator.gear * params.motor))


def reward(state: State, action: Array, after: State, params: Params) -> Array:
    """1 for a step, minus `FALL` where the pole falls."""
    del state, action, params
    return 1.0 - FALL * after.done


pole = taskbelief.from_brax(
    TiltedPole(backend="spring"),
    sample_params,
    describe,
    system=system,
    reward=reward,
    name="pole",
    episode_steps=100,
    reward_scale=0.1,
)
