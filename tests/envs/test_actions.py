"""Tests of actions outside the action space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief.types import Continuous, Discrete

BOXES = ["cheetah_velocity", "noisy_target", "numpad", "semicircle", "sparse_navigation"]


def started(name):
    """Returns (environment, task, state); the cheetah's state is traced, not compiled."""
    env = taskbelief.make(name)
    task = jax.tree.map(lambda leaf: leaf[0], env.task_set("train", 1))
    if name == "cheetah_velocity":
        return env, task, jax.eval_shape(env.reset, jax.random.key(0), task)[1]
    return env, task, env.reset(jax.random.key(1), task)[1]


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("extra", [(), (1,), (7,), (1, 2)])
def test_a_shape_that_is_wrong_raises_while_tracing(name, extra):
    env, task, state = started(name)
    action = jax.ShapeDtypeStruct(extra, jnp.float32)
    with pytest.raises(ValueError, match=r"an action of shape \[.*\]: must be \[\d\]"):
        jax.eval_shape(env.step, jax.random.key(0), state, action, task)


@pytest.mark.parametrize(
    ("action", "said"),
    [(jnp.array([1]), r"of shape \[1\]: must be \[\]"), (jnp.array(1.5), "must be a whole number")],
)
def test_what_is_no_arm_raises_while_tracing(action, said):
    env, task, state = started("bandit")
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(env.step, jax.random.key(0), state, action, task)


@pytest.mark.parametrize("name", [name for name in BOXES if name != "cheetah_velocity"])
def test_not_a_number_counts_as_nothing_and_what_is_outside_is_clipped(name):
    env, task, state = started(name)
    step = jax.jit(env.step)

    def after(*action):
        return np.asarray(step(jax.random.key(1), state, jnp.array(action), task)[0])

    np.testing.assert_array_equal(after(np.nan, 0.5), after(0.0, 0.5))
    np.testing.assert_array_equal(after(5.0, -np.inf), after(1.0, -1.0))
    assert np.any(after(1.0, -1.0) != after(0.1, -1.0))


def test_an_arm_that_there_is_not_is_the_nearest_that_there_is():
    env = taskbelief.make("bandit", arms=3)
    task = env.of_probabilities(jnp.array([1.0, 0.0, 1.0]))
    step = jax.jit(lambda arm: env.step(jax.random.key(0), env.reset(jax.random.key(0), task)[1],
                                        arm, task)[2])  # fmt: skip
    assert [float(step(jnp.array(arm))) for arm in (-5, -2, -1, 0, 1, 2, 3, 7)] == [
        *[1.0] * 4, 0.0, *[1.0] * 3,
    ]  # fmt: skip


def test_action_spaces_say_which_action_is_played():
    assert Continuous(2).legal([3, np.nan]).tolist() == [1, 0]
    assert [int(Discrete(3).legal(a)) for a in (-1, 2, 9)] == [0, 2, 2]
    # uint8 cannot hold the last arm, 999, so none of its values needs clipping
    assert int(Discrete(1000).legal(np.uint8(200))) == 200
    assert int(Discrete(2).legal(np.uint8(200))) == 1
