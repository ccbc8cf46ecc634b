"""Tests of the examples in experiments/foreign, by hand-worked numbers."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")
from experiments.foreign import pole


def test_a_motor_pushes_the_cart_as_strongly_as_its_task_says():
    """After one step from rest the cart's speed is in proportion to the force; 0 is no force."""
    env = pole.pole

    @jax.jit
    @jax.vmap
    def speed(motor, action):
        task = pole.Params(motor)
        _, state = env.reset(jax.random.key(0), task)
        return env.step(jax.random.key(1), state, action[None], task)[0][2]

    motors = jnp.array([1.0, 0.5, -0.5, 0.5, 0.5])
    actions = jnp.array([0.5, 0.5, 0.5, -0.5, 0.0])
    found = np.asarray(speed(motors, actions))
    pushed = found[:4] - found[4]
    assert pushed[0] > 0.1
    np.testing.assert_allclose(pushed / pushed[0], [1.0, 0.5, -0.5, -0.5], rtol=0.05)


def test_a_pole_begins_tilted_to_either_side():
    env = pole.pole
    keys = jax.random.split(jax.random.key(0), 1000)
    tilt = np.asarray(jax.jit(jax.vmap(lambda key: env.reset(key, pole.Params(1.0))[0][1]))(keys))
    assert np.abs(tilt).max() <= 0.1
    # uniform: its mean is 0, its deviation the width by the root of 12
    assert abs(tilt.mean()) < 0.006
    assert tilt.std() == pytest.approx(0.2 / np.sqrt(12), rel=0.05)


@pytest.mark.parametrize(("done", "wanted"), [(0.0, 1.0), (1.0, -9.0)])
def test_its_reward_is_1_for_a_step_and_minus_9_for_a_fall(done, wanted):
    after = SimpleNamespace(done=jnp.array(done))
    assert pole.reward(None, jnp.zeros(1), after, pole.Params(0.5)) == wanted


def test_its_motors_are_of_either_sign_and_0_3_to_1():
    motors = np.asarray(pole.pole.task_set("train", 4000).motor)
    assert np.abs(motors).min() >= 0.3 and np.abs(motors).max() <= 1.0
    assert np.mean(motors > 0) == pytest.approx(0.5, abs=0.03)
    assert np.abs(motors).mean() == pytest.approx(0.65, abs=0.02)
