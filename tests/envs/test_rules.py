"""Tests of rules in constructed states: rims, walls, experts, likelihoods, tasks."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taskbelief
from taskbelief.envs import _ball, cheetah_velocity, numpad
from taskbelief.types import Categories, Continuous, Discrete, HasExpert, Probabilities, Reals
from tests.envs.references import MARGIN, NoisyTargetReference, SemicircleReference

KEY = jax.random.key(0)
NONE = jnp.zeros(0)  # for arguments that are not read


def array(*values):
    return jnp.asarray(values, jnp.float32)


# ---- settings ---------------------------------------------------------------------

SETS = {"train_tasks": 100, "holdout_tasks": 1000}
DEFAULTS = {
    "bandit": {"arms": 20, "horizon": 100, **SETS},
    "cheetah_velocity": {
        **{"slowest": 0.5, "fastest": 3.0, "horizon": 200, "episodes": 1, "backend": "spring"},
        **SETS,
    },
    "noisy_target": {
        **{"radius": 5.0, "horizon": 100, "force": 0.025, "friction": 0.5, "arena": 1.2},
        **SETS,
    },
    "numpad": {
        **{"size": 3, "length": 4, "neighbours": 8, "horizon": 100, "substeps": 4},
        **{"force": 0.25, "friction": 0.5, "pad_half_width": 0.3, "jump": False},
        **{"cues": "none", "cue_share": 0.0, "mercy_share": 0.0, "train_tasks": 100},
    },
    "semicircle": {
        **{"horizon": 100, "episodes": 1, "target_radius": 0.2},
        **{"max_speed": 1.0, "max_turn_rate": 2 * np.pi},
        **{"time_step": 0.01, "action_repeat": 10, "arena": 1.5},
        **SETS,
    },
    "sparse_navigation": {
        **{"episode_steps": 20, "episodes": 5, "test_episodes": 20},
        **{"step_size": 0.1, "goal_radius": 0.2},
        **SETS,
    },
}
ARC = Reals(2, (0.0, 2 / np.pi), (np.sqrt(0.5), np.sqrt(0.5 - 4 / np.pi**2)), origin=(0, 1))
PADS = tuple((x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0))
# size of observations, actions, description, steps and episodes, range of rewards
SPECS = {
    "bandit": (1, Discrete(20), Probabilities(20), 100, 1, (0.0, 1.0)),
    "cheetah_velocity": (
        *(17, Continuous(6), Reals(1, (1.75,), (2.5 / np.sqrt(12),), (8,)), 200, 1, (0.0, 1.0)),
    ),
    "noisy_target": (4, Continuous(2), ARC, 100, 1, (0.0, 1.0)),
    "numpad": (26, Continuous(2), Categories(4, 9, PADS, (0, 1)), 100, 1, (0.0, 4.0)),
    "semicircle": (
        *(4, Continuous(2), Reals(1, (np.pi / 2,), (np.pi / np.sqrt(12),)), 100, 1, (0.0, 1.0)),
    ),
    "sparse_navigation": (2, Continuous(2), ARC, 20, 5, (0.0, 1.0)),
}


@pytest.mark.parametrize("name", taskbelief.environments())
def test_defaults_are_what_published_results_were_made_with(name):
    env: Any = taskbelief.make(name)
    assert dataclasses.asdict(env) == DEFAULTS[name]
    spec = env.spec
    found = spec.obs_dim, spec.action, spec.task, spec.episode_steps
    assert (*found, spec.episodes_per_task, spec.reward_range) == SPECS[name]
    assert isinstance(env, HasExpert) == (name != "cheetah_velocity")
    assert not spec.terminates


def test_only_help_is_left_out_at_test():
    for name in taskbelief.environments():
        if name not in ("numpad", "sparse_navigation"):
            assert taskbelief.make(name).at_test() == taskbelief.make(name)
    helped = taskbelief.make("numpad", cues="next", cue_share=0.5, mercy_share=0.5)
    assert helped.at_test() == taskbelief.make("numpad", cues="next")
    assert taskbelief.make("sparse_navigation").at_test().spec.episodes_per_task == 20


# ---- tasks ------------------------------------------------------------------------

# for each environment: the number that represents a task, and its range
DRAWN = {
    "bandit": (lambda task: task.probabilities[..., 0], (0.0, 1.0)),
    "cheetah_velocity": (lambda task: task.speed, (0.5, 3.0)),
    "noisy_target": (lambda task: np.arctan2(task.target[..., 1], task.target[..., 0]), (0, np.pi)),
    "semicircle": (lambda task: task.angle, (0.0, np.pi)),
    "sparse_navigation": (
        lambda task: np.arctan2(task.goal[..., 1], task.goal[..., 0]),
        (0, np.pi),
    ),
}
# the first task of the training and the hold-out set, as a share of its range: PCG64(0), PCG64(1)
FIRST = (0.6369616873, 0.5118216247)


@pytest.mark.parametrize("name", DRAWN)
def test_tasks_are_uniform(name):
    env = taskbelief.make(name)
    read, (low, high) = DRAWN[name]
    drawn = jax.vmap(env.sample_task)(jax.random.split(KEY, 3000))
    uniform = stats.uniform(low, high - low).cdf
    assert stats.kstest(read(drawn), uniform).pvalue > 1e-3
    for split, first in zip(("train", "holdout"), FIRST, strict=True):
        tasks = env.task_set(split)
        np.testing.assert_allclose(read(tasks)[0], low + first * (high - low), rtol=1e-5)
        assert stats.kstest(read(tasks), uniform).pvalue > 1e-3


def test_sequences_are_drawn_uniformly_and_the_sets_stay_as_they_are():
    env = taskbelief.make("numpad", size=2, length=2, train_tasks=4)
    drawn = jax.vmap(env.sample_task)(jax.random.split(KEY, 3000)).sequence
    counts = np.unique(np.asarray(drawn), axis=0, return_counts=True)[1]
    assert len(counts) == 12 and stats.chisquare(counts).pvalue > 1e-3
    env = taskbelief.make("numpad")
    np.testing.assert_array_equal(env.task_set("train", 2).sequence, [[6, 7, 8, 5], [3, 0, 1, 2]])
    np.testing.assert_array_equal(env.task_set("holdout", 2).sequence, [[0, 4, 5, 1], [3, 6, 4, 2]])


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "bandit"])
def test_hypotheses_are_the_middles_of_equal_parts(name):
    tasks, log_prior = taskbelief.make(name).hypotheses(4)
    read, (low, high) = DRAWN[name]
    shares = np.array([1, 3, 5, 7]) / 8
    np.testing.assert_allclose(read(tasks), low + shares * (high - low), rtol=1e-5)
    np.testing.assert_allclose(log_prior, np.log(1 / 4))


# ---- bandit -----------------------------------------------------------------------


def test_bandit_by_hand():
    env: Any = taskbelief.make("bandit", arms=3)
    task = env.sample_task(KEY)._replace(probabilities=array(0.2, 0.9, 0.4))
    _, state = env.reset(KEY, task)
    assert env.expert(KEY, state, task) == 1
    np.testing.assert_array_equal(env.goal(NONE, task), [1])
    keys = jax.random.split(KEY, 2000)
    for arm, chance in enumerate((0.2, 0.9, 0.4)):
        reward = jax.vmap(env.step, (0, None, None, None))(keys, state, jnp.array(arm), task)[2]
        assert stats.binomtest(int(reward.sum()), 2000, chance).pvalue > 1e-3
        for paid, wanted in ((1.0, chance), (0.0, 1 - chance)):
            found = env.log_likelihood(task, (), NONE, jnp.array(arm), array(paid)[0], NONE)[1]
            np.testing.assert_allclose(found, np.log(wanted), rtol=1e-5)


# ---- a rolling ball ---------------------------------------------------------------


def test_a_ball_stops_at_the_wall_that_it_meets():
    """By hand: a quarter of the velocity is lost, then the force is added, on each axis alone."""
    found = _ball.roll(array(0.9, 0.2), array(0.4, -0.2), array(0.1, 0.3), friction=0.25, wall=1.0)
    np.testing.assert_allclose(found, [[1.0, 0.35], [0.0, 0.15]], rtol=1e-6)
    found = _ball.roll(array(-0.9, 0.9), array(-0.4, 0), array(0, 0.05), friction=0.25, wall=1.0)
    np.testing.assert_allclose(found, [[-1.0, 0.95], [0.0, 0.05]], rtol=1e-6)


@pytest.mark.parametrize("substeps", [1, 4])
def test_the_force_that_reaches_a_place_does(substeps):
    place, speed = array(0.1, -0.2), array(0.3, 0.1)
    force = _ball.force_to_reach(array(0.5, 0.4) - place, speed, friction=0.25, substeps=substeps)
    for _ in range(substeps):
        place, speed = _ball.roll(place, speed, force, friction=0.25, wall=9.0)
    np.testing.assert_allclose(place, [0.5, 0.4], atol=1e-6)


def test_noisy_target_rolls_against_walls_and_pays_where_the_ball_came_to_be():
    """One step from positions all over the floor, many at walls; compares reward probabilities."""
    env: Any = taskbelief.make("noisy_target")
    rng = np.random.default_rng(0)
    num = 600
    tasks = jax.vmap(env.sample_task)(jax.random.split(KEY, num))
    state = env.reset(KEY, None)[1]._replace(
        position=jnp.asarray(rng.uniform(-1.5, 1.5, (num, 2)), jnp.float32),
        velocity=jnp.asarray(rng.uniform(-0.5, 0.5, (num, 2)), jnp.float32),
    )
    # the second half starts near the target, where the probability is capped
    near = np.asarray(tasks.target) + rng.uniform(-0.3, 0.3, (num, 2))
    position = np.where(np.arange(num)[:, None] < 300, state.position, near)
    state = state._replace(position=jnp.asarray(np.clip(position, -1.2, 1.2), jnp.float32))
    action = jnp.asarray(rng.uniform(-2, 2, (num, 2)), jnp.float32)
    obs = jax.vmap(env._observe)(state)
    keys = jax.random.split(KEY, num)
    after, _, reward, _ = jax.jit(jax.vmap(env.step))(keys, state, action, tasks)
    logs = [
        jax.vmap(env.log_likelihood, (0, None, 0, 0, None, 0))(
            tasks, (), obs, action, array(paid)[0], after
        )[1]
        for paid in (0.0, 1.0)
    ]
    np.testing.assert_allclose(np.exp(logs).sum(0), 1.0, rtol=1e-5)
    walls = capped = 0
    chance = np.zeros(num)
    for i in range(num):
        reference = NoisyTargetReference(env, tasks.target[i])
        reference.position = np.array(state.position[i], np.float64)
        reference.velocity = np.array(state.velocity[i], np.float64)
        chance[i] = reference.step(action[i])
        np.testing.assert_allclose(after[i], reference.observe(), atol=1e-4)
        walls += np.any(np.abs(reference.position) == 1.2)
        capped += chance[i] == 0.5
    np.testing.assert_allclose(np.exp(logs[1]), chance, rtol=1e-3)
    assert (walls > 100, capped > 50) == (True, True), (walls, capped)
    spread = np.sqrt(np.sum(chance * (1 - chance)))
    assert abs(np.sum(reward) - chance.sum()) < 4 * spread


def test_noisy_target_is_paid_as_often_as_the_place_it_rolls_to_says():
    env: Any = taskbelief.make("noisy_target")
    task = env.sample_task(KEY)._replace(target=array(0.0, 1.0))
    # from the target to 0.4 beside it: the probability is 1 / (1 + 2²), not a half
    state = env.reset(KEY, None)[1]._replace(position=array(0, 1), velocity=array(0.8, 0))
    keys = jax.random.split(KEY, 4000)
    reward = jax.vmap(env.step, (0, None, None, None))(keys, state, jnp.zeros(2), task)[2]
    assert stats.binomtest(int(reward.sum()), 4000, 0.2).pvalue > 1e-3


def test_the_expert_of_noisy_target_rolls_to_the_target_and_stays():
    env: Any = taskbelief.make("noisy_target")
    task = env.sample_task(KEY)._replace(target=array(0.6, 0.8))
    state = env.reset(KEY, None)[1]
    np.testing.assert_allclose(env.expert(KEY, state, task), [0.75, 1.0], rtol=1e-5)
    np.testing.assert_allclose(env.distance(state, task), 1.0, rtol=1e-6)
    state = state._replace(position=array(0.58, 0.81), velocity=array(0.01, 0.01))
    for _ in range(2):  # needs forces of 0.015 and -0.015; 0.025 is the largest
        state = env.step(KEY, state, env.expert(KEY, state, task), task)[1]
        np.testing.assert_allclose(state.position, [0.6, 0.8], atol=1e-6)
    np.testing.assert_allclose(env.goal(NONE, task), [0.6, 0.8])


# ---- semicircle -------------------------------------------------------------------


def driven(num=800):
    """Takes one step per state: half pass the target near its rim, half start anywhere."""
    env: Any = taskbelief.make("semicircle")
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, num)
    target = np.stack([np.cos(angle), np.sin(angle)], -1)
    # straight steps, closest to the target halfway, at about the radius of its rim
    side = rng.uniform(-np.pi, np.pi, num)
    offset = np.stack([np.cos(side), np.sin(side)], -1)
    heading = side + np.pi / 2
    way = np.stack([np.cos(heading), np.sin(heading)], -1)
    speed = rng.choice([-1.0, 1.0], num)
    gap = rng.uniform(0.185, 0.205, num)
    position = target + gap[:, None] * offset - 0.05 * speed[:, None] * way
    action = np.stack([speed, np.zeros(num)], -1)
    wild = np.arange(num) >= num // 2
    position = np.where(wild[:, None], rng.uniform(-1.8, 1.8, (num, 2)), position)
    position = np.clip(position, -1.5, 1.5)
    action = np.where(wild[:, None], rng.uniform(-1.5, 1.5, (num, 2)), action)
    tasks = jax.vmap(env.sample_task)(jax.random.split(KEY, num))
    tasks = tasks._replace(angle=jnp.asarray(angle, jnp.float32))
    state = env.reset(KEY, None)[1]._replace(
        position=jnp.asarray(position, jnp.float32), heading=jnp.asarray(heading, jnp.float32)
    )
    action = jnp.asarray(action, jnp.float32)
    before = jax.vmap(env._observe)(state)
    keys = jax.random.split(KEY, num)
    obs, after, reward, _ = jax.jit(jax.vmap(env.step))(keys, state, action, tasks)
    return env, tasks, state, action, before, obs, after, reward


def test_semicircle_pays_for_grazing_passes_and_stops_at_walls():
    env, tasks, _, action, before, obs, after, reward = driven()
    passed = walls = 0
    for i in range(len(obs)):
        reference = SemicircleReference(env, float(tasks.angle[i]), before[i])
        assert reference.step(action[i]) == reward[i] or reference.margin < MARGIN
        if reference.margin < MARGIN:
            continue
        if reward[i]:
            np.testing.assert_array_equal(obs[i, :2], 0.0)
            # the end of the step without the hit: outside the target again?
            ahead = SemicircleReference(env, 0.0, before[i])
            ahead.target = (9.0, 9.0)
            ahead.step(action[i])
            passed += np.hypot(ahead.x - reference.target[0], ahead.y - reference.target[1]) > 0.2
        else:
            np.testing.assert_allclose(obs[i], reference.observe(), atol=1e-4)
            walls += max(abs(reference.x), abs(reference.y)) == 1.5
    assert passed > 50 and walls > 50
    assert 0.2 < np.mean(reward) < 0.8
    # each teleport draws a new heading, uniform on the circle
    turned = np.asarray(after.heading)[np.asarray(reward) > 0]
    assert stats.kstest(turned, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_the_likelihood_of_semicircle_is_of_the_whole_way():
    """The observed reward is nearly certain and the other nearly impossible, except at the rim."""
    env, tasks, _, action, before, _, _, reward = driven()
    logs = [
        np.asarray(
            jax.jit(jax.vmap(env.log_likelihood, (0, None, 0, 0, 0, None)))(
                tasks, (), before, action, paid, NONE
            )[1]
        )
        for paid in (reward, 1.0 - reward)
    ]
    sure = np.abs(logs[0] - logs[1]) > 3.0  # 0.006 radii from the rim or more
    assert sure.mean() > 0.6
    assert np.all(logs[0][sure] > -0.06) and np.all(logs[1][sure] < -3.0)
    np.testing.assert_allclose(np.exp(logs).sum(0), 1.0, rtol=1e-4)


def test_the_expert_of_semicircle_drives_forwards_or_backwards():
    """The target is at 0 degrees; a step turns by at most a tenth of a full turn."""
    env: Any = taskbelief.make("semicircle")
    task = env.sample_task(KEY)._replace(angle=array(0.0)[0])
    per_step = 0.2 * np.pi
    for heading, wanted in [
        (0.0, (1.0, 0.0)),
        (np.pi - 1e-3, (-1.0, 1e-3 / per_step)),
        (0.3, (np.cos(0.3), -0.3 / per_step)),
        (-0.3, (np.cos(0.3), 0.3 / per_step)),
        (np.pi - 0.3, (-np.cos(0.3), 0.3 / per_step)),
        (1.2, (np.cos(1.2), -1.0)),
    ]:
        state = env.reset(KEY, task)[1]._replace(heading=array(heading)[0])
        np.testing.assert_allclose(env.expert(KEY, state, task), wanted, atol=1e-5)
    np.testing.assert_allclose(env.goal(NONE, task), [1.0, 0.0], atol=1e-6)
    state = state._replace(position=array(0.4, 0.8))
    np.testing.assert_allclose(env.distance(state, task), 1.0, rtol=1e-6)


# ---- sparse navigation ------------------------------------------------------------


def test_sparse_navigation_by_hand():
    env: Any = taskbelief.make("sparse_navigation")
    task = env.sample_task(KEY)._replace(goal=array(0.6, 0.8))
    start = env.reset(KEY, task)[1]
    np.testing.assert_allclose(env.expert(KEY, start, task), [0.75, 1.0], rtol=1e-6)
    np.testing.assert_allclose(env.distance(start, task), 1.0, rtol=1e-6)
    for place, action, after, reward in [
        ((0.5, 0.7), (0.5, 0.5), (0.55, 0.75), 1 - 0.05 * np.sqrt(2)),
        ((0.3, 0.8), (3.0, 0.0), (0.4, 0.8), None),  # at the rim
        ((0.3, 0.8), (3.0, -1.0), (0.4, 0.7), 0.0),
        ((0.5, 0.8), (-0.9, 0.0), (0.41, 0.8), 0.81),  # it moves away, and is still in reach
    ]:
        state = start._replace(position=array(*place))
        obs, moved, found, _ = env.step(KEY, state, array(*action), task)
        np.testing.assert_allclose(obs, after, atol=1e-6)
        np.testing.assert_allclose(moved.position, after, atol=1e-6)
        gap = np.hypot(after[0] - 0.6, after[1] - 0.8)
        np.testing.assert_allclose(env.dense_reward(obs, task), -gap, atol=1e-6)
        if reward is not None:
            np.testing.assert_allclose(found, reward, atol=1e-6)
    # within one step of the goal, the expert's action ends exactly there
    state = start._replace(position=array(0.57, 0.84))
    np.testing.assert_allclose(env.expert(KEY, state, task), [0.3, -0.4], atol=1e-5)


def test_the_likelihood_of_sparse_navigation_is_of_hit_and_distance():
    env: Any = taskbelief.make("sparse_navigation")
    task = env.sample_task(KEY)._replace(goal=array(0.6, 0.8))

    def log_likelihood(place, action, reward):
        # the likelihood does not read the next observation: it may be of the next episode
        found = env.log_likelihood(task, (), array(*place), array(*action), reward, NONE)
        return float(found[1])

    away, into, there = (0.3, 0.0), (0.45, 0.8), (0.5, 0.8)
    assert log_likelihood(away, (1.0, 1.0), 0.0) > -1e-4
    assert log_likelihood(away, (1.0, 1.0), 0.85) < -20
    assert log_likelihood(into, (0.5, 0.0), 0.9) > -1e-3
    assert log_likelihood(into, (0.5, 0.0), 0.0) < -20
    assert log_likelihood(there, (-1.0, 0.0), 0.9) < -10  # 0.9 is for the place before
    np.testing.assert_allclose(log_likelihood(into, (0.5, 0.0), 0.902), -1.0, atol=1e-3)
    np.testing.assert_allclose(log_likelihood((0.4, 0.8), (0, 0), 0.0), np.log(0.5), atol=1e-3)


# ---- cheetah velocity -------------------------------------------------------------


def body(velocity):
    """An observation with `velocity` in its place; all other entries are 100 or more."""
    return jnp.arange(100.0, 117.0).at[8].set(velocity)


@pytest.mark.parametrize(
    ("velocity", "reward"),
    [(2.0, 1.0), (1.0, 0.5), (3.0, 0.5), (0.5, 0.25), (4.0, 0.0), (5.0, 0.0), (0.0, 0.0)],
)
def test_the_reward_of_cheetah_velocity_by_hand(velocity, reward):
    """For a target of 2 m/s the reward is 1 at 2 m/s and falls linearly to 0 at 0 and 4 m/s."""
    task = cheetah_velocity.Task(array(2.0)[0])
    np.testing.assert_allclose(cheetah_velocity._reward(body(velocity), task), reward, rtol=1e-6)
    backwards = cheetah_velocity._reward(body(-velocity), task)
    assert backwards == 0.0
    env: Any = taskbelief.make("cheetah_velocity")
    state: Any = cheetah_velocity.State(SimpleNamespace(obs=body(velocity)))
    assert env.distance(state, task) == abs(velocity - 2.0)


def test_the_likelihood_of_cheetah_velocity_is_a_spike_at_the_reward():
    """The density is the inverse of the width of a grid cell, in units of the reward."""
    env: Any = taskbelief.make("cheetah_velocity")

    def log_likelihood(speed, velocity, reward):
        task = cheetah_velocity.Task(array(speed)[0])
        return float(env.log_likelihood(task, (), NONE, NONE, reward, body(velocity))[1])

    # at 1 m/s the reward's slope by a target of 2 m/s is 1 / 2²: a width of 0.0025 / 4
    width = 2.5e-3 / 4 + 1e-5
    np.testing.assert_allclose(log_likelihood(2.0, 1.0, 0.5), -np.log(width), rtol=1e-4)
    off = log_likelihood(2.0, 1.0, 0.5 + 2 * width)
    np.testing.assert_allclose(off, -np.log(width) - 2, rtol=1e-3)
    np.testing.assert_allclose(log_likelihood(2.0, 5.0, 0.0), 0.0, atol=1e-6)
    assert log_likelihood(2.0, 1.0, 0.0) < -500


def test_cheetah_velocity_heads_for_its_speed_and_has_no_expert():
    env: Any = taskbelief.make("cheetah_velocity")
    task = cheetah_velocity.Task(array(2.0)[0])
    np.testing.assert_array_equal(env.goal(NONE, task), [2.0])
    np.testing.assert_array_equal(env.describe(task), [2.0])
    assert not isinstance(env, HasExpert)
    assert isinstance(taskbelief.make("semicircle"), HasExpert)


# ---- numpad -----------------------------------------------------------------------


def at(env, position, velocity=(0.0, 0.0), progress=0, earned=0):
    """Returns the task of `sequence` 4, 5, 2, 1, and a constructed state."""
    task = numpad.Task(jnp.array([4, 5, 2, 1]))
    state = env.reset(KEY, task)[1]._replace(
        position=array(*position),
        velocity=array(*velocity),
        progress=jnp.array(progress),
        earned=jnp.array(earned),
        contact=env._pad_under(array(*position)),
    )
    return task, state


@pytest.mark.parametrize(
    ("place", "pad"),
    [
        ((0, 0), 4),
        ((0.29, -0.29), 4),
        ((0.31, 0), -1),
        ((-1, 1), 6),
        ((1.2, -0.8), 2),
        ((1.5, 1), -1),
    ],
)
def test_pads_are_numbered_by_rows_from_the_lower_left(place, pad):
    assert taskbelief.make("numpad")._pad_under(array(*place)) == pad


def test_the_expert_of_numpad_rolls_onto_the_next_pad_in_one_step():
    env: Any = taskbelief.make("numpad")
    # between the pads, with a velocity to compensate; pad 5 is at (1, 0)
    task, state = at(env, (0.5, 0.3), (0.1, -0.05), progress=1, earned=1)
    np.testing.assert_allclose(env.distance(state, task), np.hypot(0.5, 0.3), rtol=1e-5)
    action = env.expert(KEY, state, task)
    obs, after, reward, _ = env.step(KEY, state, action, task)
    np.testing.assert_allclose(after.position, [1.0, 0.0], atol=1e-5)
    assert reward == 1.0 and after.progress == 2 and after.pressed == 5
    np.testing.assert_array_equal(env.goal(obs, task), [2])
    # too far for one step: the largest force in the right direction
    task, state = at(env, (-1.5, 0.75), progress=1, earned=1)
    action = env.expert(KEY, state, task)
    np.testing.assert_allclose(action, [1.0, -0.75 / 2.5], rtol=1e-5)


@pytest.mark.parametrize(("progress", "gap"), [(0, (0.5, 0.0)), (1, (0.5, 0.0)), (3, (0.5, -1.0))])
def test_the_expert_of_numpad_leaves_a_pad_that_it_is_on(progress, gap):
    """It rolls to the gap beside the pad; the way back from there is half a pad spacing."""
    env: Any = taskbelief.make("numpad")
    centre = {0: (0.0, 0.0), 1: (1.0, 0.0), 3: (0.0, -1.0)}[progress]
    task, state = at(env, centre, progress=progress, earned=progress)
    np.testing.assert_allclose(env.distance(state, task), 0.5 + 0.5, rtol=1e-6)
    after = env.step(KEY, state, env.expert(KEY, state, task), task)[1]
    np.testing.assert_allclose(after.position, gap, atol=1e-5)


@pytest.mark.parametrize(
    ("start", "push", "lights", "earned", "reward"),
    [
        ((0.5, 0.0, 1, 1), 1, 2, 2, 1.0),  # the next pad, 5
        ((0.5, 0.0, 1, 3), 1, 2, 3, 0.0),  # lit and rewarded before a mistake
        ((0.5, 0.0, 0, 2), -1, 1, 2, 0.0),  # the first, 4, again after a mistake
        ((0.5, 0.0, 2, 2), -1, 0, 2, 0.0),  # 4 out of order: all lights go out
        ((0.5, -1.0, 3, 3), -1, 0, 0, 1.0),  # the last, 1: complete, and all can be earned again
    ],
)
def test_what_a_press_of_numpad_lights_and_pays(start, push, lights, earned, reward):
    """The ball rolls from a gap to the pad half a pad spacing to the left or right."""
    env: Any = taskbelief.make("numpad")
    task, state = at(env, start[:2], progress=start[2], earned=start[3])
    force = 0.5 / (0.25 * (1 + 1.5 + 1.75 + 1.875))
    _, after, found, _ = env.step(KEY, state, array(push * force, 0), task)
    np.testing.assert_allclose(after.position, [0.5 + 0.5 * push, start[1]], atol=1e-5)
    assert (after.progress, after.earned, found) == (lights, earned, reward)


def test_the_likelihood_of_numpad_by_hand():
    """The ball rolls from the gap onto pad 5, with pad 4 lit: likelihoods of light and reward."""
    env: Any = taskbelief.make("numpad")
    task, state = at(env, (0.5, 0.0), progress=1, earned=1)
    obs = env._observe(state, task)
    action = env.expert(KEY, state, task)
    lit, _, reward, _ = env.step(KEY, state, action, task)
    other = numpad.Task(jnp.array([4, 1, 2, 5]))
    wrong, _, unpaid, _ = env.step(KEY, state, action, other)
    assert reward == 1.0 and unpaid == 0.0
    carry = env.initial_carry(task)._replace(earned=jnp.array(1))

    def explained(task, reward, after, carry=carry):
        return float(env.log_likelihood(task, carry, obs, action, reward, after)[1])

    assert explained(task, 1.0, lit) == 0.0 and explained(other, 0.0, wrong) == 0.0
    assert explained(other, 1.0, lit) == -20.0 and explained(task, 0.0, wrong) == -20.0
    # rewarded before: the light comes on again without a reward
    rewarded = carry._replace(earned=jnp.array(2))
    assert explained(task, 1.0, lit, rewarded) == -20.0
    assert explained(task, 0.0, lit, rewarded) == 0.0
    # the lit pad is not the first of this sequence
    swapped = numpad.Task(jnp.array([1, 5, 2, 4]))
    assert explained(swapped, 1.0, lit) == -20.0


def test_a_cue_of_numpad_tells_of_the_pad_that_is_next_when_it_is_seen():
    """The ball rolls onto pad 5 with pad 4 lit: the cue shows 5 before the step, 2 after it."""
    env: Any = taskbelief.make("numpad", cues="next")
    task, state = at(env, (0.5, 0.0), progress=1, earned=1)
    state = state._replace(cue=jnp.ones(4, bool))
    obs, action = env._observe(state, task), env.expert(KEY, state, task)
    after, _, reward, _ = env.step(KEY, state, action, task)
    np.testing.assert_array_equal(obs[-9:], np.eye(9)[5])
    np.testing.assert_array_equal(after[-9:], np.eye(9)[2])
    carry = env.initial_carry(task)._replace(earned=jnp.array(1))
    # the second sequence explains lights and reward, but not the cue
    for sequence, log_likelihood in (([4, 5, 2, 1], 0.0), ([4, 5, 1, 2], -20.0)):
        other = numpad.Task(jnp.array(sequence))
        _, found = env.log_likelihood(other, carry, obs, action, reward, after)
        assert float(found) == log_likelihood
