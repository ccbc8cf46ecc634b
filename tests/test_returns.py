"""Retrace and discounts against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import returns

# One stream of three steps: rewards 1, 2, 4; Q of the actions taken 0.5, 1, 2; V after each
# step 3, 1, 5; discount 0.5; lambda 0.8; pi / mu of the actions 7 (unused), 0.5, 2.
# G_2 = 4 + 0.5 * 5 = 6.5
# G_1 = 2 + 0.5 * (1 + 0.8 * min(1, 2) * (6.5 - 2)) = 4.3
# G_0 = 1 + 0.5 * (3 + 0.8 * 0.5 * (4.3 - 1)) = 3.16
REWARD, Q, V = [1.0, 2.0, 4.0], [0.5, 1.0, 2.0], [3.0, 1.0, 5.0]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_retrace(wrap):
    column = lambda values: jnp.asarray(values)[:, None]  # noqa: E731
    target = wrap(
        lambda q: returns.retrace(
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
    target = returns.retrace(q, v, r, jnp.full((6, 3), 0.9), log_ratio, lambda_=0.0)
    np.testing.assert_allclose(target, r + 0.9 * v, rtol=1e-6)


def test_retrace_has_no_gradient():
    ones = jnp.ones((4, 2))
    gradient = jax.grad(lambda q: jnp.sum(returns.retrace(q, ones, ones, ones, ones, lambda_=1.0)))(
        ones
    )
    assert not jnp.any(gradient)


@pytest.mark.parametrize(
    ("beyond", "expected"),
    # an episode ends inside the task; time runs out; a terminal state as time runs out
    [(True, [[0.9, 0.9], [0.9, 0.0]]), (False, [[0.9, 0.9], [0.0, 0.0]])],
)
def test_discounts_cross_episodes_and_end_with_the_task(beyond, expected):
    terminated = jnp.array([[True, False], [False, True]])
    task_end = jnp.array([[False, False], [True, True]])
    found = returns.discounts(0.9, terminated, task_end, beyond=beyond)
    np.testing.assert_allclose(found, expected)
