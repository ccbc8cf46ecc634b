"""Tests of the finite-horizon Gittins index, against indices computed by hand, and its policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import explorer, posterior


def test_indices_by_hand():
    index = explorer.gittins_index(4)
    # one pull left: the mean
    np.testing.assert_allclose(index[0, 2, 1], 3 / 5, atol=1e-3)
    # two left, no pulls so far: 2 x = 1/2 (1 + 2/3) + 1/2 x
    np.testing.assert_allclose(index[1, 0, 0], 5 / 9, atol=1e-3)
    # two left, one loss, p = 1/3: 2 x = 1/3 (1 + 1/2) + 2/3 x
    np.testing.assert_allclose(index[1, 0, 1], 3 / 8, atol=1e-3)


def test_three_pulls_left_against_enumeration():
    """The index is the x at which the best plan with the arm earns as much as the sure reward."""

    def plan(left, wins, losses, x):
        if left == 0:
            return 0.0
        p = (wins + 1) / (wins + losses + 2)
        won = 1 + plan(left - 1, wins + 1, losses, x)
        arm = p * won + (1 - p) * plan(left - 1, wins, losses + 1, x)
        return max(left * x, arm)

    index = explorer.gittins_index(5)
    for wins, losses in ((0, 0), (1, 1), (0, 2)):
        x = float(index[2, wins, losses])
        np.testing.assert_allclose(plan(3, wins, losses, x), 3 * x, atol=2e-3)
        assert plan(3, wins, losses, x - 0.02) > 3 * (x - 0.02) + 0.005


def test_it_tries_the_lesser_known_of_equal_arms_and_the_better_at_the_last_pull():
    key = jax.random.key(1)

    def choice(wins, losses, horizon=10):
        env = taskbelief.make("bandit", arms=2, horizon=horizon)
        policy, task = explorer.gittins(env), env.sample_task(jax.random.key(0))
        belief = posterior.Counts(jnp.asarray(wins, jnp.float32), jnp.asarray(losses, jnp.float32))
        return int(policy.act(belief, key, None, task))

    assert choice([2, 0], [2, 0]) == 1
    assert choice([1, 4], [1, 3]) == 1  # the last pull: means 2/4 and 5/9
    assert choice([1, 4], [0, 4]) == 0
    # means 1/2 and 12/22; with two pulls left (horizon 22), the indices are 5/9 and 0.552
    assert choice([0, 11], [0, 9], horizon=21) == 1
    assert choice([0, 11], [0, 9], horizon=22) == 0


def test_it_is_for_independent_arms():
    with pytest.raises(ValueError, match="bandit"):
        explorer.gittins(taskbelief.make("noisy_target"))
