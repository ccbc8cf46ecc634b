"""Tests of the exact posterior against brute force and closed forms, and of its calibration."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core as jax_core
from scipy import stats

import taskbelief
from taskbelief import posterior, rollout
from taskbelief.labels import description, expert_goal
from tests.envs.references import MARGIN, NumpadReference

ENVS = taskbelief.environments()


def random_play(env, num, seed=0):
    """Returns tasks drawn from the prior, [num], and random histories on them, [num, T, ...]."""
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(seed), num))
    play = jax.jit(
        lambda tasks, key: rollout.collect_scripted(
            env, tasks, key, rollout.uniform_random(env.spec)
        )
    )
    t = play(tasks, jax.random.key(seed + 1))
    obs, action, reward = (jnp.swapaxes(x, 0, 1) for x in (t.inputs.obs, t.action, t.reward))
    return tasks, obs, action, reward


def cheetah_play(env, num):
    """Like `random_play`, for a body whose speed is a random walk: the posterior reads nothing
    else."""
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), num))
    steps = np.random.default_rng(1).normal(0.1, 0.5, (num, env.horizon + 1))
    velocity = np.float32(np.cumsum(steps, axis=1))
    obs = np.zeros((num, env.horizon + 1, 17), np.float32)
    obs[:, :, 8] = velocity
    ratio = velocity[:, 1:] / np.asarray(tasks.speed)[:, None]
    reward = np.maximum(1 - np.abs(ratio - 1), 0)
    action = np.zeros((num, env.horizon, 6), np.float32)
    return tasks, *map(jnp.asarray, (obs, action, reward))


def last_belief(exact, obs, action, reward):
    def step(belief, now):
        return exact.update(belief, *now), None

    return jax.lax.scan(step, exact.init(), (obs[:-1], action, reward, obs[1:]))[0]


def short(name):
    """Returns the environment with short meta-episodes, of two episodes in sparse_navigation."""
    settings = {"horizon": 15}
    if name == "sparse_navigation":
        settings = {"episode_steps": 15, "episodes": 2}
    return taskbelief.make(name, **settings)


@pytest.mark.parametrize("name", ENVS)
def test_truth_is_never_ruled_out(name):
    env = short(name)
    exact = posterior.make(env)
    num = 500
    play = cheetah_play if name == "cheetah_velocity" else random_play
    tasks, obs, action, reward = play(env, num)

    @jax.jit
    @jax.vmap
    def log_probs(task, obs, action, reward):
        beliefs = posterior.along(exact, obs, action, reward)
        return jax.vmap(exact.log_prob, in_axes=(0, None))(beliefs, task)

    found = np.asarray(log_probs(tasks, obs, action, reward))
    assert found.shape == (num, env.spec.task_steps + 1)
    assert np.all(found > found[:, :1] - 12)  # at least exp(-12) of its prior, even on a rim
    if name != "bandit":  # its rewards may mislead by chance
        assert found[:, -1].mean() >= found[:, 0].mean()


@pytest.mark.parametrize("name", ["bandit", "numpad", "semicircle"])
def test_step_by_step_equals_whole_trajectories(name):
    env = short(name)
    exact = posterior.make(env, num=64)
    _, obs, action, reward = random_play(env, 2)
    whole = jax.jit(
        jax.vmap(lambda obs, action, reward: posterior.along(exact, obs, action, reward))
    )(obs, action, reward)
    update = jax.jit(exact.update)
    for i in range(2):
        belief = exact.init()
        for t in range(env.spec.task_steps):
            entry = jax.tree.map(lambda leaf, i=i, t=t: leaf[i, t], whole)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), belief, entry
            )
            belief = update(belief, obs[i, t], action[i, t], reward[i, t], obs[i, t + 1])


@pytest.mark.parametrize("jump", [False, True])
def test_numpad_equals_brute_force(jump):
    """Replays every sequence in Python; those consistent with lights and rewards remain."""
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
    beliefs = jax.jit(jax.vmap(lambda o, a, r: last_belief(exact, o, a, r)))(obs, action, reward)
    mean, entropy = jax.vmap(exact.mean)(beliefs), jax.vmap(exact.entropy)(beliefs)
    log_prob = jax.vmap(exact.log_prob)(beliefs, tasks)
    beta: Any = None
    for i in range(20):
        wins = np.bincount(action[i], reward[i], minlength=5)
        losses = np.bincount(action[i], 1 - reward[i], minlength=5)
        beta = stats.beta(1 + wins, 1 + losses)
        np.testing.assert_allclose(mean[i], beta.mean(), atol=1e-5)
        np.testing.assert_allclose(entropy[i], beta.entropy().sum(), rtol=1e-4)
        wanted = beta.logpdf(tasks.probabilities[i]).sum()
        np.testing.assert_allclose(log_prob[i], wanted, rtol=1e-5, atol=1e-5)
    last = jax.tree.map(lambda leaf: leaf[-1], beliefs)
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = jax.jit(jax.vmap(lambda key: exact.sample(last, key).probabilities))(keys)
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
        expected = np.float64(masses[::2])  # chisquare requires sums equal to 1e-8
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
    """Hypotheses well inside the swept region are excluded; those well outside keep their odds."""
    env = taskbelief.make(name)
    exact = posterior.make(env, num=400)
    angle = (np.arange(400) + 0.5) / 400 * np.pi
    target = np.stack([np.cos(angle), np.sin(angle)], -1)
    # straight from the origin to the arc at pi / 4 and beyond, without reward
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
    tasks, obs, action, reward = cheetah_play(env, 100)
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
        ranks = ranks[np.arange(num), rng.integers(env.arms, size=num)]  # a random arm of each task
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


# ---- what a hand-made belief says ---------------------------------------------------

GRIDS = ["semicircle", "noisy_target", "sparse_navigation", "cheetah_velocity"]


def weights(probs):
    return posterior.Weights(jnp.log(jnp.asarray(probs, jnp.float32)), ())


def uneven(num):
    """Returns distinct masses of `num` hypotheses."""
    masses = np.arange(1.0, num + 1)
    return masses / masses.sum()


def line(name, num):
    """Returns `num` labels, evenly spaced along all of W, and their spacing."""
    if name == "cheetah_velocity":
        return 0.5 + 2.5 * (np.arange(num)[:, None] + 0.5) / num, 2.5 / num
    angle = (np.arange(num) + 0.5) / num * np.pi
    place = angle[:, None] if name == "semicircle" else np.stack([np.cos(angle), np.sin(angle)], -1)
    return place, np.pi / num


@pytest.mark.parametrize("name", GRIDS)
def test_densities_integrate_to_one(name):
    exact = posterior.make(taskbelief.make(name), num=40)
    h, spacing = line(name, 320)
    density = np.exp(jax.vmap(exact.log_prob_label, (None, 0))(weights(uneven(40)), h))
    np.testing.assert_allclose(density.sum() * spacing, 1.0, rtol=2e-3)
    # the integral over each cell is its mass
    cells = density.reshape(40, 8)[:, 1:-1].mean(1) * 8 * spacing
    np.testing.assert_allclose(cells, uneven(40), rtol=2e-3)


@pytest.mark.parametrize("name", [*GRIDS, "numpad"])
def test_entropy_of_the_prior_is_the_logarithm_of_how_many_there_are(name):
    exact = posterior.make(taskbelief.make(name), num=40)
    prior = exact.init()
    num = 496 if name == "numpad" else 40
    assert prior.log_probs.shape == (num,)
    np.testing.assert_allclose(exact.entropy(prior), np.log(num), rtol=1e-5)
    masses = uneven(num)
    np.testing.assert_allclose(exact.entropy(weights(masses)), stats.entropy(masses), rtol=1e-4)


@pytest.mark.parametrize("name", GRIDS)
def test_mean_mode_and_draws_of_a_grid(name):
    env = taskbelief.make(name)
    exact = posterior.make(env, num=6)
    masses = np.array([0.0, 0.05, 0.1, 0.5, 0.3, 0.05])
    h, _ = line(name, 6)
    np.testing.assert_allclose(exact.labels, h, atol=1e-6)
    belief = weights(masses)
    np.testing.assert_allclose(exact.mean(belief), masses @ h, atol=1e-6)
    np.testing.assert_allclose(env.describe(exact.mode(belief)), h[3], atol=1e-6)
    drawn = jax.vmap(exact.sample, (None, 0))(belief, jax.random.split(jax.random.key(0), 1000))
    found = np.argmin(np.abs(np.asarray(jax.vmap(env.describe)(drawn))[:, None, 0] - h[:, 0]), 1)
    counts = np.bincount(found, minlength=6)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], masses[1:] * 1000).pvalue > 1e-3


def test_what_a_belief_over_sequences_says():
    """Compares masses and marginals of twelve sequences, of two pads out of four, with counts."""
    env = taskbelief.make("numpad", size=2, length=2, train_tasks=4)
    exact = posterior.make(env)
    masses = uneven(12)
    belief = weights(masses)
    sequences = np.asarray(exact.labels)
    marginals = [np.bincount(sequences[:, place], masses, minlength=4) for place in (0, 1)]
    np.testing.assert_allclose(exact.mean(belief), marginals, rtol=1e-5)
    for i in (0, 7):
        h = jnp.asarray(sequences[i])
        np.testing.assert_allclose(exact.log_prob_label(belief, h), np.log(masses[i]), rtol=1e-5)
    assert exact.log_prob_label(belief, jnp.array([1, 1])) == -np.inf  # no such sequence
    np.testing.assert_array_equal(exact.mode(belief).sequence, sequences[-1])
    obs = jnp.zeros(env.spec.obs_dim).at[:2].set(jnp.array([0.25, -0.5]))
    found = exact.statistics(belief, obs)  # about the first pad: no light is on
    centres = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    likely = np.argmax(marginals[0])
    expected = [*marginals[0], *(marginals[0] @ centres - obs[:2])]
    expected += [*np.eye(4)[likely], *(centres[likely] - obs[:2])]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_statistics_of_a_belief_over_places():
    """Mean, deviation and most probable goal, relative to the agent, and the masses of 16 parts."""
    env = taskbelief.make("sparse_navigation")
    exact = posterior.make(env, num=32)
    masses = np.zeros(32)
    masses[[4, 20, 21]] = [0.5, 0.2, 0.3]
    h, _ = line("sparse_navigation", 32)
    obs = np.array([0.3, 0.1])
    scale = np.array([np.sqrt(0.5), np.sqrt(0.5 - 4 / np.pi**2)])
    mean = masses @ h
    deviation = np.sqrt(masses @ (h - mean) ** 2)
    parts = masses.reshape(16, 2).sum(1)
    wanted = [*(mean - obs) / scale, *deviation / scale, *(h[4] - obs) / scale, *parts]
    found = exact.statistics(weights(masses + 1e-12), jnp.asarray(obs, jnp.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def products(program):
    """Yields the matrix products of a jaxpr."""
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax_core.jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("name", ENVS)
def test_products_have_full_precision_on_every_device(name):
    """By default GPUs and TPUs round factors to 11 and 8 bits; tests on a CPU would not show it."""
    env = short(name)
    exact = posterior.make(env, num=20)
    obs = jnp.zeros(env.spec.obs_dim)
    action = env.spec.action.none(1)[0]
    kinds = description.make(env), expert_goal.make(env)

    def everything(belief, key):
        later = exact.update(belief, obs, action, 1.0, obs)
        likely = env.describe(exact.mode(later))
        said = exact.log_prob_label(later, likely), exact.mean(later), exact.entropy(later)
        steps = jax.tree.map(lambda leaf: leaf[None], later)
        expected = [k.exact.expected(exact, steps, obs[None]) for k in kinds if k.exact]
        known = exact.probabilities(later), exact.statistics(later, obs)
        return said, expected, known, exact.sample(later, key)

    found = list(products(jax.make_jaxpr(everything)(exact.init(obs), jax.random.key(0)).jaxpr))
    assert found
    full = (jax.lax.Precision.HIGHEST,) * 2
    assert [str(one) for one in found if one.params["precision"] != full] == []


def test_of_equally_probable_goals_statistics_name_the_nearest():
    env = taskbelief.make("sparse_navigation")
    exact = posterior.make(env, num=32)
    masses = np.full(32, 1e-12)
    masses[[4, 20]] = 0.5
    belief = weights(masses)
    h, _ = line("sparse_navigation", 32)
    scale = np.array([np.sqrt(0.5), np.sqrt(0.5 - 4 / np.pi**2)])
    for near in (4, 20):
        obs = 0.9 * h[near]
        found = exact.statistics(belief, jnp.asarray(obs, jnp.float32))
        np.testing.assert_allclose(found[4:6], (h[near] - obs) / scale, atol=1e-4)
    # four pads at the corners of a square: of two tied ones the nearer is read, but a more probable
    # one even if it is farther
    env = taskbelief.make("numpad", size=2, length=2, train_tasks=4)
    exact = posterior.make(env)
    first = np.asarray(exact.labels)[:, 0]
    centres = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]])
    for shares, likely in (([0.3, 0.2, 0.2, 0.3], 3), ([0.1, 0.2, 0.4, 0.3], 2)):
        belief = weights(np.asarray(shares)[first] / 3)
        obs = jnp.zeros(env.spec.obs_dim).at[:2].set(jnp.array([0.4, 0.3]))
        found = exact.statistics(belief, obs)
        expected = [*np.eye(4)[likely], *(centres[likely] - [0.4, 0.3])]
        np.testing.assert_allclose(found[6:], expected, atol=1e-4)


def test_the_first_observation_counts():
    """Its cue shows that the first of two pads is the last of four: three sequences remain."""
    env = taskbelief.make("numpad", size=2, length=2, train_tasks=4, cues="first")
    exact = posterior.make(env)
    obs = jnp.zeros(env.spec.obs_dim).at[-8 + 3].set(1.0)
    left = np.asarray(exact.labels)[:, 0] == 3
    assert left.sum() == 3
    nothing = jnp.zeros((0, 2)), jnp.zeros(0)
    for belief in (
        exact.init(obs),
        jax.tree.map(lambda leaf: leaf[0], posterior.along(exact, obs[None], *nothing)),
    ):
        np.testing.assert_allclose(np.exp(belief.log_probs), left / 3, atol=1e-6)
    np.testing.assert_allclose(np.exp(exact.init().log_probs), 1 / 12, rtol=1e-5)


def test_which_arm_is_the_best():
    """P(x > y) is 2/3 for densities 2x and 1, and 5/6 for densities 2x and 2 (1 - y). Twenty arms
    are compared with draws."""
    for wins, losses, expected in (
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]),
        ([1.0, 0.0], [0.0, 0.0], [2 / 3, 1 / 3]),
        ([1.0, 0.0], [0.0, 1.0], [5 / 6, 1 / 6]),
    ):
        belief = posterior.Counts(jnp.asarray(wins), jnp.asarray(losses))
        np.testing.assert_allclose(posterior.best_arm(belief), expected, atol=1e-3)
    rng = np.random.default_rng(0)
    wins, losses = rng.integers(8, size=20), rng.integers(4, size=20)
    drawn = np.argmax(rng.beta(1 + wins, 1 + losses, (100_000, 20)), axis=-1)
    belief = posterior.Counts(jnp.asarray(wins, jnp.float32), jnp.asarray(losses, jnp.float32))
    found, shares = posterior.best_arm(belief), np.bincount(drawn, minlength=20) / 100_000
    np.testing.assert_allclose(found, shares, atol=0.005)


def test_what_a_belief_over_arms_says():
    exact = posterior.make(taskbelief.make("bandit", arms=3))
    np.testing.assert_allclose(exact.entropy(exact.init()), 0.0, atol=1e-5)  # of U(0, 1)
    belief = posterior.Counts(jnp.array([3.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 6.0]))
    beta = stats.beta([4, 1, 1], [2, 1, 7])
    for at in ([0.2, 0.5, 0.9], [0.7, 0.1, 0.1]):
        np.testing.assert_allclose(
            exact.log_prob_label(belief, jnp.asarray(at)), beta.logpdf(at).sum(), rtol=1e-4
        )
    np.testing.assert_allclose(exact.mode(belief).probabilities, beta.mean(), rtol=1e-5)
    np.testing.assert_allclose(exact.entropy(belief), beta.entropy().sum(), rtol=1e-4)
    spread = stats.uniform.std()
    best = 1 + np.log(np.asarray(posterior.best_arm(belief)) + 1e-4) / np.log(3)
    expected = [*best, *(beta.mean() - 0.5) / spread, *beta.std() / spread]
    np.testing.assert_allclose(exact.statistics(belief, jnp.ones(1)), expected, rtol=1e-4)
    won = exact.update(belief, jnp.ones(1), jnp.array(2), jnp.array(1.0), jnp.ones(1))
    lost = exact.update(belief, jnp.ones(1), jnp.array(0), jnp.array(0.0), jnp.ones(1))
    np.testing.assert_array_equal([*won, *lost], [[3, 0, 1], [1, 0, 6], [3, 0, 0], [2, 0, 6]])


# ---- from outside -----------------------------------------------------------------


@pytest.mark.parametrize("convert", [np.asarray, lambda x: np.asarray(x).tolist()])
@pytest.mark.parametrize("name", ["bandit", "semicircle", "numpad"])
def test_updates_take_arrays_of_numpy_and_plain_numbers(name, convert):
    env = short(name)
    exact = posterior.make(env, num=16)
    _, obs, action, reward = random_play(env, 1)
    given = obs[0, 0], action[0, 0], reward[0, 0], obs[0, 1]
    wanted = exact.update(exact.init(), *given)
    found = exact.update(exact.init(), *map(convert, given))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)
    h = env.describe(jax.tree.map(lambda leaf: leaf[0], env.task_set("train", 1)))
    np.testing.assert_allclose(
        exact.log_prob_label(found, convert(h)), exact.log_prob_label(wanted, h), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([0.0], 1, 1.0, [1.0, 2.0]), r"next_obs of shape \[2\]: must be \[1\]"),
        ((1.0, 1, 1.0, [1.0]), r"obs of shape \[\]: must be \[1\]"),
        (([0.0], [1], 1.0, [1.0]), r"an action of shape \[1\]: must be \[\]"),
        (([0.0], 1.5, 1.0, [1.0]), "an action of type float32: must be a whole number"),
        (([0.0], 1, [1.0], [1.0]), r"reward of shape \[1\]: must be \[\]"),
    ],
)
def test_updates_refuse_other_shapes(given, said):
    exact = posterior.make("bandit")
    for update in (exact.update, jax.jit(exact.update)):
        with pytest.raises(ValueError, match=said):
            update(exact.init(), *(jnp.asarray(x) for x in given))


def test_updates_take_the_arm_that_was_played():
    """An environment plays the nearest arm that exists (see `types.Discrete.legal`)."""
    exact = posterior.make(taskbelief.make("bandit", arms=3))
    wins = [exact.update(exact.init(), [1.0], arm, 1.0, [1.0]).wins.tolist() for arm in (-4, 1, 7)]
    assert wins == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_every_member_says_what_it_takes_and_gives():
    exact = posterior.make("bandit")
    for name in posterior.Posterior._fields:
        said = getattr(posterior.Posterior, name).__doc__
        assert "[" in said or "->" in said, name
        member = getattr(exact, name)
        assert not callable(member) or member.__doc__ == said, name


def test_probabilities_of_arms_are_of_the_vectors_that_stand_for_all():
    """After two wins of the first of two arms and a loss of the second: p1^2 (1 - p2)."""
    exact = posterior.make(taskbelief.make("bandit", arms=2), num=500)
    belief = exact.init()
    np.testing.assert_allclose(exact.probabilities(belief), np.full(500, 1 / 500), rtol=1e-5)
    for arm, reward in ((0, 1.0), (0, 1.0), (1, 0.0)):
        belief = exact.update(belief, [1.0], arm, reward, [1.0])
    p = np.asarray(exact.labels, np.float64)
    weights = p[:, 0] ** 2 * (1 - p[:, 1])
    np.testing.assert_allclose(exact.probabilities(belief), weights / weights.sum(), rtol=1e-4)
    np.testing.assert_array_equal(exact.tasks.probabilities, exact.labels)
    # their mean is close to the mean in closed form
    np.testing.assert_allclose(exact.probabilities(belief) @ p, [3 / 4, 1 / 3], atol=0.05)


def test_probabilities_of_hypotheses():
    exact = posterior.make("numpad")
    probs = np.asarray(exact.probabilities(exact.init()))
    np.testing.assert_allclose(probs, np.full(496, 1 / 496), rtol=1e-5)


def test_adapters_and_wrappers_have_the_posterior_of_what_is_inside():
    gymnasium = pytest.importorskip("gymnasium")
    gymnax = pytest.importorskip("gymnax")
    from gymnasium import vector, wrappers

    adapters = taskbelief.adapters
    del gymnasium, gymnax
    settings = {"episode_steps": 7}
    env = taskbelief.make("sparse_navigation", **settings)
    one = adapters.gymnasium.make(env)
    several = adapters.gymnasium.make_vec(env, 2)
    found = [
        one,
        wrappers.TimeLimit(wrappers.FlattenObservation(one), 5),
        several,
        vector.VectorWrapper(several),
        adapters.gymnax.make(env)[0],
        adapters.brax.make(env),
    ]
    expected = posterior.make(env, 12).tasks.goal
    for made in found:
        np.testing.assert_array_equal(posterior.make(made, 12).tasks.goal, expected)
    with pytest.raises(ValueError, match="int has no exact posterior"):
        posterior.make(3)


def test_they_are_there_without_importing_them():
    code = (
        "import sys, taskbelief\n"
        "assert 'jax' not in sys.modules\n"
        "assert {'posterior', 'adapters', 'make'} <= set(dir(taskbelief))\n"
        "assert taskbelief.posterior.make('bandit').init().wins.shape == (20,)\n"
        "assert taskbelief.adapters.__name__ == 'taskbelief.adapters'\n"
        "assert 'gymnasium' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
