"""Tests of discounts, Retrace and lambda-returns against numbers by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.learners import ppo, svg0
from taskbelief.types import Trajectory

# One stream of three steps: rewards 1, 2, 4; Q of the actions taken 0.5, 1, 2; V after each
# step 3, 1, 5; discount 0.5; lambda 0.8; pi / mu of the actions 7 (unused), 0.5, 2.
# G_2 = 4 + 0.5 * 5 = 6.5
# G_1 = 2 + 0.5 * (1 + 0.8 * min(1, 2) * (6.5 - 2)) = 4.3
# G_0 = 1 + 0.5 * (3 + 0.8 * 0.5 * (4.3 - 1)) = 3.16
REWARD, Q, V = [1.0, 2.0, 4.0], [0.5, 1.0, 2.0], [3.0, 1.0, 5.0]


def discounts(gamma, terminated, task_end, bootstrap):
    """Returns the discounts of a trajectory with these ends; its other fields are not used."""
    played = Trajectory(*[None] * 4, terminated, None, task_end, None)
    return played.discounts(gamma, bootstrap=bootstrap)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_retrace(wrap):
    column = lambda values: jnp.asarray(values)[:, None]  # noqa: E731
    target = wrap(
        lambda q: svg0.retrace(
            q,
            column(V),
            column(REWARD),
            jnp.full((3, 1), 0.5),
            jnp.log(column([7.0, 0.5, 2.0])),
            lambda_=0.8,
        )
    )(column(Q))
    np.testing.assert_allclose(target[:, 0], [3.16, 4.3, 6.5], rtol=1e-6)


def test_retrace_without_traces_is_one_step():
    rng = np.random.default_rng(0)
    q, v, r, log_ratio = (jnp.asarray(rng.normal(size=(6, 3)), jnp.float32) for _ in range(4))
    target = svg0.retrace(q, v, r, jnp.full((6, 3), 0.9), log_ratio, lambda_=0.0)
    np.testing.assert_allclose(target, r + 0.9 * v, rtol=1e-6)


def test_retrace_has_no_gradient():
    ones = jnp.ones((4, 2))
    gradient = jax.grad(lambda q: jnp.sum(svg0.retrace(q, ones, ones, ones, ones, lambda_=1.0)))(
        ones
    )
    assert not jnp.any(gradient)


@pytest.mark.parametrize(
    ("bootstrap", "expected"),
    # an episode ends inside the task; time runs out; a terminal state as time runs out
    [(True, [[0.9, 0.9], [0.9, 0.0]]), (False, [[0.9, 0.9], [0.0, 0.0]])],
)
def test_discounts_cross_episodes_and_end_with_the_task(bootstrap, expected):
    terminated = jnp.array([[True, False], [False, True]])
    task_end = jnp.array([[False, False], [True, True]])
    found = discounts(0.9, terminated, task_end, bootstrap)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("ended", "expected"),
    # values 1, 2, 3, 4, rewards 1, 2, 4, discount 0.5, lambda 0.8:
    # G_2 = 4 + 0.5 * 4 = 6, or 4 where a terminal state ends the task
    # G_1 = 2 + 0.5 * (0.2 * 3 + 0.8 * G_2) = 4.7, or 3.9
    # G_0 = 1 + 0.5 * (0.2 * 2 + 0.8 * G_1) = 3.08, or 2.76: the end inside does not matter
    [(False, [3.08, 4.7, 6.0]), (True, [2.76, 3.9, 4.0])],
)
def test_lambda_returns(ended, expected):
    task_end = jnp.array([[False], [False], [True]])
    terminated = jnp.array([[True], [False], [ended]])
    found = ppo.lambda_returns(
        jnp.array([[1.0], [2.0], [3.0], [4.0]]),
        jnp.array([[1.0], [2.0], [4.0]]),
        discounts(0.5, terminated, task_end, True),
        lambda_=0.8,
    )
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_lambda_returns_are_values_and_generalised_advantages():
    """They are sums of temporal differences, each discounted by d lambda per step in between."""
    rng = np.random.default_rng(0)
    value, reward = rng.normal(size=(6, 2)), rng.normal(size=(5, 2))
    discount = rng.uniform(0.5, 1.0, size=(5, 2))
    difference = reward + discount * value[1:] - value[:-1]
    wanted = np.zeros((5, 2))
    for t in range(5):
        for later in range(t, 5):
            wanted[t] += 0.7 ** (later - t) * discount[t:later].prod(axis=0) * difference[later]
    found = ppo.lambda_returns(*map(jnp.asarray, (value, reward, discount)), lambda_=0.7)
    np.testing.assert_allclose(found - value[:-1], wanted, atol=1e-5)


def test_targets_have_no_gradient():
    ones = jnp.ones((4, 2))
    gradient = jax.grad(
        lambda value: jnp.sum(ppo.lambda_returns(value, ones[1:], ones[1:], lambda_=0.9))
    )(ones)
    assert not jnp.any(gradient)
