"""Probe environments: each isolates one learning fault, both agents solve all in seconds."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import probes

AGENTS = ("baseline", "aux_head")


@pytest.mark.parametrize("agent", AGENTS)
def test_value(agent):
    _, metrics = probes.learn(probes.Value(), agent, 40)
    np.testing.assert_allclose(metrics["q"], 1.0, atol=0.05)


@pytest.mark.parametrize("agent", AGENTS)
def test_discount(agent):
    _, metrics = probes.learn(probes.Discount(), agent, 60)
    np.testing.assert_allclose(metrics["q"], (0.9 + 1.0) / 2, atol=0.05)


@pytest.mark.parametrize("agent", AGENTS)
def test_action_gradient(agent):
    trajectory, _ = probes.learn(probes.ActionGradient(), agent, 60)
    np.testing.assert_allclose(trajectory.action, 0.5, atol=0.15)


@pytest.mark.parametrize("agent", AGENTS)
def test_memory(agent):
    trajectory, _ = probes.learn(probes.Memory(), agent, 120)
    assert jnp.min(trajectory.reward[-1]) > 0.9


@pytest.mark.parametrize("agent", AGENTS)
def test_task_reset(agent):
    trajectory, _ = probes.learn(probes.TaskReset(), agent, 150)
    assert jnp.min(trajectory.reward[1]) > 0.85
