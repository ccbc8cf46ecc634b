"""Tests of the reference policies that define scores."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taskbelief
from experiments import references
from taskbelief import explorer, posterior, rollout, scoring

KEY = jax.random.key(0)
ARMS = jnp.array([0.2, 0.9, 0.4])


def bandit() -> Any:
    env: Any = taskbelief.make("bandit", arms=3)
    task = env.sample_task(KEY)._replace(probabilities=ARMS)
    return env, task, env.reset(KEY, task)[1]


def counts(wins, losses):
    return posterior.Counts(jnp.asarray(wins, jnp.float32), jnp.asarray(losses, jnp.float32))


def test_the_reference_expert_is_the_expert():
    """It plays the best arm, or moves to the goal, of the true task."""
    env, task, state = bandit()
    expert = explorer.policies(env)["expert"]
    for best in range(3):
        task = task._replace(probabilities=jnp.roll(ARMS, best - 1))
        assert expert.act(expert.init(None), KEY, state, task) == best
    env = taskbelief.make("sparse_navigation")
    expert = explorer.policies(env)["expert"]
    _, state = env.reset(KEY, None)
    for goal in ([-0.6, 0.8], [1.0, 0.0]):
        task = env.task_set("train", 1)._replace(goal=jnp.asarray(goal))
        action = expert.act(expert.init(None), KEY, state, task)
        np.testing.assert_allclose(action, np.asarray(goal) / np.abs(goal).max(), rtol=1e-6)


def test_the_random_reference_is_uniform():
    keys = jax.random.split(KEY, 3000)
    env, task, state = bandit()
    policy = explorer.policies(env)["random"]
    arms = jax.vmap(policy.act, (None, 0, None, None))((), keys, state, task)
    assert stats.chisquare(np.bincount(arms, minlength=3)).pvalue > 1e-3
    pushes = rollout.uniform_random(taskbelief.make("semicircle").spec)
    drawn = jax.vmap(pushes.act, (None, 0, None, None))((), keys, None, None)
    assert drawn.shape == (3000, 2)
    for i in range(2):
        assert stats.kstest(drawn[:, i], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_references_are_mean_returns_of_the_policies():
    """With an arm of probability 1 the expert gets a reward at every pull."""
    env, task, _ = bandit()
    sure = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), task)
    sure = sure._replace(probabilities=jnp.array([[0.0, 1.0, 0.0]] * 4))
    entry = {
        name: references._entry(reference)
        for name, reference in scoring.beside(env, "given", sure, 0, ("random", "expert")).items()
    }
    assert entry["expert"] == {"mean": 100.0, "ci95": [100.0, 100.0], "tasks": 4}
    assert abs(entry["random"]["mean"] - 100 / 3) < 5 * np.sqrt(100 * 2 / 9 / 4)
    low, high = entry["random"]["ci95"]
    np.testing.assert_allclose((low + high) / 2, entry["random"]["mean"], atol=1e-3)


@pytest.mark.parametrize("angle", [0.3, 2.5])
def test_the_explorer_takes_the_nearest_of_equally_probable_tasks(angle):
    env: Any = taskbelief.make("sparse_navigation")
    policy = explorer.explorer(env, 40)
    cells = (np.arange(40) + 0.5) / 40 * np.pi
    nearest = cells[np.argmin(np.abs(cells - angle))]
    # inside the circle, so that exactly one goal is nearest
    position = 0.9 * np.array([np.cos(angle), np.sin(angle)])
    state = env.reset(KEY, None)[1]._replace(position=jnp.asarray(position, jnp.float32))
    way = (np.array([np.cos(nearest), np.sin(nearest)]) - position) / 0.1
    hidden = env.task_set("train", 1)._replace(goal=jnp.array([0.0, 1.0]))
    found = policy.act(policy.init(None), KEY, state, hidden)
    np.testing.assert_allclose(found, way / max(1.0, np.abs(way).max()), atol=1e-4)


def test_the_explorer_prefers_what_is_more_probable_to_what_is_near():
    env: Any = taskbelief.make("sparse_navigation")
    policy = explorer.explorer(env, 4)  # goals at 1, 3, 5 and 7 eighths of pi
    belief = policy.init(None)._replace(log_probs=jnp.log(jnp.array([0.2, 0.2, 0.2, 0.4])))
    state = env.reset(KEY, None)[1]._replace(position=jnp.array([0.9, 0.3]))
    found = policy.act(belief, KEY, state, None)
    np.testing.assert_allclose(found[0], -1.0, atol=1e-6)


def test_the_explorer_of_a_bandit_takes_the_best_mean():
    env, task, state = bandit()
    policy = explorer.explorer(env)
    belief = counts([6, 0, 0], [4, 8, 0])  # means 7 / 12, 1 / 10, 1 / 2
    assert policy.act(belief, KEY, state, task) == 0
    belief = policy.observe(belief, jnp.ones(1), jnp.array(2), jnp.array(1.0), jnp.ones(1))
    assert policy.act(belief, KEY, state, task) == 2  # 2 / 3


def test_thompson_takes_an_arm_as_often_as_it_is_the_best():
    env, task, state = bandit()
    policy = explorer.thompson(env)
    belief = counts([3, 0, 0], [1, 0, 6])
    keys = jax.random.split(KEY, 4000)
    arms = jax.jit(jax.vmap(policy.act, (None, 0, None, None)))(belief, keys, state, task)
    draws = np.random.default_rng(0).beta([4, 1, 1], [2, 1, 7], (200_000, 3)).argmax(1)
    share = np.bincount(draws, minlength=3) / len(draws)
    assert stats.chisquare(np.bincount(arms, minlength=3), share * 4000).pvalue > 1e-3


def test_upper_confidence_adds_its_bonus():
    """Compares with bounds computed by hand, for arms with different numbers of pulls."""
    env, task, state = bandit()
    policy = explorer.upper_confidence(env, bonus=0.3)
    # means 0.583, 0.5, 0.083 of 12, 2, 12 pulls; bounds 0.740, 0.883, 0.240
    tried = counts([6, 0, 0], [4, 0, 10])
    assert policy.act(tried, KEY, state, task) == 1
    assert explorer.upper_confidence(env, bonus=0.0).act(tried, KEY, state, task) == 0
    # means 0.583, 0.25, 0.083 of 12, 4, 12 pulls; bounds 0.741, 0.524, 0.241
    tried = counts([6, 0, 0], [4, 2, 10])
    assert policy.act(tried, KEY, state, task) == 0
    # means 0.4, 0.35, 0.1 of 10, 20, 20 pulls; bounds 0.588, 0.483, 0.233: with a bonus of the
    # other sign, the second arm would have the highest bound
    assert policy.act(counts([3, 6, 1], [5, 12, 17]), KEY, state, task) == 0
