"""Tests of the examples in experiments/foreign, by hand-worked numbers."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")
from experiments.foreign import reacher


def test_the_reacher_observes_its_arm_alone():
    """Links of 0.1 and 0.11 m; the target of Brax's own reacher, the last two positions, changes
    nothing."""
    arm = reacher.Arm(backend="spring")
    first, second = 0.3, -1.2

    @jax.jit
    def observed(target):
        angles = jnp.array([first, second, *target])
        return arm._get_obs(arm.pipeline_init(angles, jnp.zeros(4)))

    tip = [
        0.1 * np.cos(first) + 0.11 * np.cos(first + second),
        0.1 * np.sin(first) + 0.11 * np.sin(first + second),
    ]
    angles = [np.cos(first), np.cos(second), np.sin(first), np.sin(second)]
    np.testing.assert_allclose(observed([0.05, 0.02]), [*angles, 0.0, 0.0, *tip], atol=1e-5)
    np.testing.assert_array_equal(observed([0.05, 0.02]), observed([-0.1, 0.0]))


@pytest.mark.parametrize(("gap", "wanted"), [(0.049, 1.0), (0.051, 0.0)])
def test_its_reward_is_1_within_5_cm_of_the_hidden_target(gap, wanted):
    """The target lies in the direction (3, 4) / 5 of the tip."""
    after = SimpleNamespace(obs=jnp.array([0.0] * 6 + [0.1, -0.1]))
    params = reacher.Params(jnp.array([0.1 + 0.6 * gap, -0.1 + 0.8 * gap]))
    assert reacher.reward(None, jnp.zeros(2), after, params) == wanted


def test_its_targets_are_uniform_in_the_disk_that_the_arm_reaches():
    targets = np.asarray(reacher.reacher.task_set("train", 4000).target)
    radius = np.linalg.norm(targets, axis=-1) / 0.21
    assert radius.max() <= 1.0
    # Of a uniform disk, a quarter lies within half of the radius.
    assert np.mean(radius < 0.5) == pytest.approx(0.25, abs=0.03)
    # The label is standardised: of a uniform disk, x has half of the radius as its deviation.
    family = reacher.reacher.spec.task
    standard = (targets - np.asarray(family.centre)) / np.asarray(family.scale)
    assert np.abs(standard.mean(0)).max() < 0.1 and np.abs(standard.std(0) - 1).max() < 0.1
