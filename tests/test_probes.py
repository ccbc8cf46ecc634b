"""Tests of learning on probe environments, each of which isolates one fault."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import probes

# for the first three tests, whose agent has no memory
LEARNERS = pytest.mark.parametrize(
    ("learner", "value"), [("svg0", "q"), ("ppo", "value")], ids=["svg0", "ppo"]
)


@LEARNERS
def test_value(learner, value):
    # ppo is slow here: it clips values in deviations of the returns, and all returns are equal
    _, metrics = probes.learn(probes.Value(), "toy", learner, 150)
    np.testing.assert_allclose(metrics[value], 1.0, atol=0.05)


@LEARNERS
def test_discount(learner, value):
    _, metrics = probes.learn(probes.Discount(), "toy", learner, 80)
    np.testing.assert_allclose(metrics[value], (0.9 + 1.0) / 2, atol=0.03)


@LEARNERS
def test_action_gradient(learner, value):
    trajectory, _ = probes.learn(probes.ActionGradient(), "toy", learner, 80)
    np.testing.assert_allclose(trajectory.action, 0.5, atol=0.15)


@pytest.mark.parametrize(("learner", "iterations"), [("svg0", 120), ("ppo", 100)])
def test_memory(learner, iterations):
    trajectory, _ = probes.learn(probes.Memory(), "baseline", learner, iterations)
    assert jnp.min(trajectory.reward[-1]) > 0.9


@pytest.mark.parametrize(
    ("agent", "learner", "iterations"), [("aux_head", "svg0", 150), ("baseline", "ppo", 130)]
)
def test_task_reset(agent, learner, iterations):
    """Without memory of the first episode, the best reward is 1 - 0.49."""
    trajectory, _ = probes.learn(probes.TaskReset(), agent, learner, iterations)
    assert jnp.min(trajectory.reward[2]) > 0.85
