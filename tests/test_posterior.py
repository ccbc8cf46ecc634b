"""The exact posterior against brute force, closed forms, and its own calibration."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taskbelief
from taskbelief import posterior, rollout
from tests.envs.references import MARGIN, NumpadReference

ENVS = taskbelief.environments()


def random_play(env, num, seed=0):
    """Tasks drawn from the prior, [num], and random histories on them, [num, T, ...]."""
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(seed), num))
    play = jax.jit(
        lambda tasks, key: rollout.collect_scripted(
            env, tasks, key, rollout.uniform_random(env.spec)
        )
    )
    t = play(tasks, jax.random.key(seed + 1))
    obs, action, reward = (jnp.swapaxes(x, 0, 1) for x in (t.inputs.obs, t.action, t.reward))
    return tasks, obs, action, reward


def last_belief(exact, obs, action, reward):
    def step(belief, now):
        return exact.update(belief, *now), None

    return jax.lax.scan(step, exact.init(), (obs[:-1], action, reward, obs[1:]))[0]


def short(name):
    """Short meta-episodes of each environment; two episodes where there can be several."""
    settings = {"horizon": 15}
    if name == "sparse_navigation":
        settings = {"episode_steps": 15, "episodes": 2}
    return taskbelief.make(name, **settings)


@pytest.mark.parametrize("name", ENVS)
def test_truth_is_never_ruled_out(name):
    env = short(name)
    exact = posterior.make(env)
    num = 100 if name == "cheetah_velocity" else 500
    tasks, obs, action, reward = random_play(env, num)

    @jax.jit
    @jax.vmap
    def log_probs(task, obs, action, reward):
        beliefs = posterior.along(exact, obs, action, reward)
        return jax.vmap(exact.log_prob, in_axes=(0, None))(beliefs, task)

    found = np.asarray(log_probs(tasks, obs, action, reward))
    assert found.shape == (num, env.spec.task_steps + 1)
    assert np.all(np.isfinite(found))
    assert np.all(np.exp(found) > 0)
    assert np.all(found > found[:, :1] - 12)  # a share of the prior, even on the unluckiest rim
    if name != "bandit":  # whose arms may fall unluckily
        assert found[:, -1].mean() >= found[:, 0].mean()


@pytest.mark.parametrize("name", ["bandit", "numpad", "semicircle"])
def test_step_by_step_equals_whole_trajectories_and_no_jit(name):
    env = short(name)
    exact = posterior.make(env, num=64)
    _, obs, action, reward = random_play(env, 2)
    whole = jax.jit(
        jax.vmap(lambda obs, action, reward: posterior.along(exact, obs, action, reward))
    )(obs, action, reward)
    for i in range(2):
        belief = exact.init()
        for t in range(3):
            entry = jax.tree.map(lambda leaf, i=i, t=t: leaf[i, t], whole)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), belief, entry
            )
            belief = exact.update(belief, obs[i, t], action[i, t], reward[i, t], obs[i, t + 1])


@pytest.mark.parametrize("jump", [False, True])
def test_numpad_equals_brute_force(jump):
    """Replays every sequence in plain Python; those that explain lights and payment remain."""
    env = taskbelief.make("numpad", length=2, train_tasks=10, horizon=40, jump=jump)
    exact = posterior.make(env)
    sequences = np.asarray(env.hypotheses(0)[0].sequence)
    _, obs, action, reward = (jax.tree.map(np.asarray, x) for x in random_play(env, 40))
    beliefs = jax.jit(jax.vmap(lambda o, a, r: posterior.along(exact, o, a, r)))(
        obs, action, reward
    )
    compared = 0
    for i in range(len(obs)):
        replays = [NumpadReference(env, sequence, obs[i, 0, :2]) for sequence in sequences]
        possible = np.ones(len(sequences), bool)
        for t in range(40):
            for k in np.flatnonzero(possible):
                paid = replays[k].step(action[i, t])
                seen = np.allclose(replays[k].observe(), obs[i, t + 1], atol=1e-3)
                possible[k] = paid == reward[i, t] and seen
            if min(replays[k].margin for k in np.flatnonzero(possible)) < MARGIN:
                break
            found = np.exp(beliefs.log_probs[i, t + 1])
            np.testing.assert_allclose(found, possible / possible.sum(), atol=1e-5)
            compared += 1
    assert compared > 0.7 * reward.size


def test_bandit_equals_the_beta_posterior():
    env = taskbelief.make("bandit", arms=5, horizon=60)
    exact = posterior.make(env)
    tasks, obs, action, reward = (jax.tree.map(np.asarray, x) for x in random_play(env, 20))
    belief: Any = None
    beta: Any = None
    for i in range(20):
        belief = last_belief(exact, *map(jnp.asarray, (obs[i], action[i], reward[i])))
        wins = np.bincount(action[i], reward[i], minlength=5)
        losses = np.bincount(action[i], 1 - reward[i], minlength=5)
        beta = stats.beta(1 + wins, 1 + losses)
        p = tasks.probabilities[i]
        np.testing.assert_allclose(exact.mean(belief), beta.mean(), atol=1e-5)
        np.testing.assert_allclose(exact.entropy(belief), beta.entropy().sum(), rtol=1e-4)
        found = exact.log_prob(belief, type(tasks)(jnp.asarray(p)))
        np.testing.assert_allclose(found, beta.logpdf(p).sum(), rtol=1e-5, atol=1e-5)
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = jax.jit(jax.vmap(lambda key: exact.sample(belief, key).probabilities))(keys)
    np.testing.assert_allclose(drawn.mean(0), beta.mean(), atol=5 * beta.std().max() / 44)


@pytest.mark.parametrize("num", [2, 3, 7, 496])
def test_draws_of_hypotheses_are_as_frequent_as_probable(num):
    masses = np.random.default_rng(num).exponential(size=num).astype(np.float32)
    masses[1::2] = 0.0
    keys = jax.random.split(jax.random.key(num), 50_000)
    drawn = jax.jit(jax.vmap(posterior._draw, (0, None)))(keys, masses)
    found = np.bincount(drawn, minlength=num)
    assert len(found) == num
    assert not found[1::2].any()
    if num > 2:
        expected = np.float64(masses[::2])  # chisquare wants its sums equal to 1e-8
        assert stats.chisquare(found[::2], expected / expected.sum() * len(keys)).pvalue > 1e-3


def test_noisy_target_equals_a_product_of_coins():
    env = taskbelief.make("noisy_target", horizon=80)
    exact = posterior.make(env, num=200)
    _, obs, action, reward = random_play(env, 20)
    belief = jax.jit(jax.vmap(lambda o, a, r: last_belief(exact, o, a, r)))(obs, action, reward)
    angle = (np.arange(200) + 0.5) / 200 * np.pi
    target = np.stack([np.cos(angle), np.sin(angle)], -1)
    position = np.asarray(obs, np.float64)[:, 1:, None, :2]
    chance = np.minimum(0.5, 1 / (1 + 25 * np.sum((position - target) ** 2, -1)))  # [20, T, 200]
    paid = np.asarray(reward)[:, :, None] > 0.5
    weights = np.prod(np.where(paid, chance, 1 - chance), axis=1)
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(belief.log_probs), weights, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(exact.mean)(belief), weights @ target, atol=1e-3)


@pytest.mark.parametrize("name", ["semicircle", "sparse_navigation"])
def test_no_mass_where_a_search_has_found_nothing(name):
    """What lies well inside the swept region is excluded, what lies well outside keeps its odds."""
    env = taskbelief.make(name)
    exact = posterior.make(env, num=400)
    angle = (np.arange(400) + 0.5) / 400 * np.pi
    target = np.stack([np.cos(angle), np.sin(angle)], -1)
    # straight from the origin towards pi / 4 and there onto the arc, unpaid
    belief, position = exact.init(), np.zeros(2)
    swept = []
    for _ in range(12):
        step = 0.1 * np.array([1.0, 0.0] if name == "semicircle" else [0.7, 0.7])
        if name == "semicircle":
            turned = np.array([np.sin(np.pi / 4), np.cos(np.pi / 4)])
            obs = jnp.asarray(np.append(position, turned), jnp.float32)
            action = jnp.array([1.0, 0.0])
            step = 0.1 * turned
        else:
            obs, action = jnp.asarray(position, jnp.float32), jnp.array([0.7, 0.7])
        position = position + step
        swept.append(position)
        belief = exact.update(belief, obs, action, jnp.zeros(()), jnp.zeros(env.spec.obs_dim))
    gap = np.min(np.linalg.norm(np.stack(swept)[:, None] - target, axis=-1), axis=0)
    mass = np.exp(np.asarray(belief.log_probs))
    assert mass[gap < 0.17].sum() < 1e-5
    outside = mass[gap > 0.23]
    np.testing.assert_allclose(outside, outside.max(), rtol=1e-3)
    assert outside.sum() > 0.9


def test_semicircle_and_sparse_navigation_find_the_truth_after_a_reward():
    for name, tolerance in [("semicircle", 0.25), ("sparse_navigation", 0.01)]:
        env = taskbelief.make(name)
        exact = posterior.make(env)
        tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), 100))
        play = jax.jit(
            lambda tasks, env=env: rollout.collect_scripted(
                env, tasks, jax.random.key(1), rollout.expert(env)
            )
        )
        t = play(tasks)
        obs, action, reward = (jnp.swapaxes(x, 0, 1) for x in (t.inputs.obs, t.action, t.reward))
        belief = jax.jit(jax.vmap(lambda o, a, r, exact=exact: last_belief(exact, o, a, r)))(
            obs, action, reward
        )
        error = jax.vmap(exact.mean)(belief) - jax.vmap(env.describe)(tasks)
        assert np.max(np.linalg.norm(error, axis=-1)) < tolerance


def test_cheetah_knows_the_speed_after_a_few_steps():
    env = taskbelief.make("cheetah_velocity", horizon=15)
    exact = posterior.make(env)
    tasks, obs, action, reward = random_play(env, 100)
    belief = jax.jit(jax.vmap(lambda o, a, r: last_belief(exact, o, a, r)))(obs, action, reward)
    error = np.abs(np.asarray(jax.vmap(exact.mean)(belief))[:, 0] - np.asarray(tasks.speed))
    informed = np.sum(np.asarray(reward) > 0, axis=1) >= 3
    assert informed.sum() > 50
    assert np.median(error[informed]) < 0.003


@pytest.mark.parametrize("name", ["bandit", "noisy_target", "numpad"])
def test_simulation_based_calibration(name):
    """The rank of the true task under the posterior is uniform (Talts et al. 2018)."""
    num = 2000
    env: Any = taskbelief.make(name, horizon=20 if name == "numpad" else 50)
    exact = posterior.make(env)
    tasks, obs, action, reward = random_play(env, num, seed=7)
    belief = jax.jit(jax.vmap(lambda o, a, r: last_belief(exact, o, a, r)))(obs, action, reward)
    tasks = jax.tree.map(np.asarray, tasks)
    rng = np.random.default_rng(0)
    if name == "bandit":
        wins, losses = np.asarray(belief.wins), np.asarray(belief.losses)
        ranks = stats.beta(1 + wins, 1 + losses).cdf(tasks.probabilities)
        ranks = ranks[np.arange(num), rng.integers(env.arms, size=num)]  # an arm of each task
    else:
        mass = np.exp(np.asarray(belief.log_probs, np.float64))
        mass /= mass.sum(-1, keepdims=True)
        below = np.cumsum(mass, axis=1) - mass
        if name == "numpad":
            sequences = np.asarray(env.hypotheses(0)[0].sequence)
            same = np.all(sequences[None] == tasks.sequence[:, None], -1)
            cell, within = same.argmax(1), rng.uniform(size=num)
        else:
            angle = np.arctan2(tasks.target[:, 1], tasks.target[:, 0]) / np.pi * mass.shape[1]
            cell = np.clip(np.floor(angle).astype(int), 0, mass.shape[1] - 1)
            within = angle - cell
        rows = np.arange(num)
        ranks = below[rows, cell] + within * mass[rows, cell]
    counts, _ = np.histogram(ranks, bins=20, range=(0, 1))
    found = stats.kstest(ranks, "uniform").pvalue, stats.chisquare(counts).pvalue
    print(f"{name}: p = {found[0]:.3f} (Kolmogorov-Smirnov), {found[1]:.3f} (chi-squared)")
    assert min(found) > 0.01


def test_mode_takes_the_nearest_of_equals():
    env = taskbelief.make("sparse_navigation")
    exact = posterior.make(env)
    for angle in (0.3, 2.5):
        place = jnp.array([np.cos(angle), np.sin(angle)], jnp.float32)
        state = env.reset(jax.random.key(0), None)[1]._replace(position=place)
        np.testing.assert_allclose(exact.mode(exact.init(), state).goal, place, atol=5e-3)


@pytest.mark.parametrize("name", ENVS)
def test_shapes_of_what_a_posterior_says(name):
    env = taskbelief.make(name)
    exact = posterior.make(env, num=32)
    belief = exact.init()
    key = jax.random.key(0)
    h = env.describe(env.sample_task(key))
    assert exact.mean(belief).shape[: h.ndim] == h.shape
    for task in (exact.mode(belief), exact.sample(belief, key)):
        assert env.describe(task).shape == h.shape
        np.testing.assert_allclose(
            exact.log_prob(belief, task), exact.log_prob_label(belief, env.describe(task))
        )
    assert np.isfinite(exact.entropy(belief))
    if exact.labels is not None:
        assert exact.labels.shape[1:] == h.shape
