"""Tests of each environment against a reference in Python, on at least 1,000 trajectories,
or 250 of Brax's slow physics."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import rollout
from taskbelief.envs.cheetah_velocity import State
from taskbelief.rollout import memoryless
from taskbelief.types import Continuous
from tests.envs.references import (
    MARGIN,
    NoisyTargetReference,
    NumpadReference,
    SemicircleReference,
    SparseNavigationReference,
)

TRAJECTORIES = 1000


def played(env, num=TRAJECTORIES, share=0.5):
    """Trajectories on random tasks; in a random `share` of steps the expert acts, with noise."""
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), num))

    def act(key, state, task):
        random = rollout.uniform_random(env.spec).act((), key, state, task)
        helped = jax.random.uniform(jax.random.fold_in(key, 1)) < share
        expert = env.expert(key, state, task)
        if isinstance(env.spec.action, Continuous):
            expert = expert + 0.2 * random
        return jnp.where(helped, expert, random)

    play = jax.jit(lambda key: rollout.collect_scripted(env, tasks, key, memoryless(act)))
    t = play(jax.random.key(1))
    obs, action, reward = (np.asarray(x).swapaxes(0, 1) for x in (t.inputs.obs, t.action, t.reward))
    return jax.tree.map(np.asarray, tasks), obs, action, reward


def assert_near(found, wanted, atol):
    """A fast `np.testing.assert_allclose`, for hundreds of thousands of steps."""
    assert np.shape(found) == np.shape(wanted)
    assert np.max(np.abs(np.subtract(found, wanted))) <= atol, (found, wanted)


NUMPADS = [
    {},
    {"neighbours": 4, "train_tasks": 40},
    {"jump": True},
    {"size": 4, "length": 3, "substeps": 2, "force": 0.35, "pad_half_width": 0.4},
    {"size": 2, "length": 2, "train_tasks": 4, "cues": "first"},
]


@pytest.mark.parametrize("settings", NUMPADS, ids=lambda s: " ".join(map(str, s)) or "default")
@pytest.mark.parametrize("share", [0.0, 0.8], ids=["random", "expert"])
def test_numpad(settings, share):
    env: Any = taskbelief.make("numpad", horizon=25, **settings)
    tasks, obs, action, reward = played(env, TRAJECTORIES // 2, share)
    compared = completed = 0
    for i, sequence in enumerate(tasks.sequence):
        reference = NumpadReference(env, sequence, obs[i, 0, :2])
        width = len(reference.observe())
        assert_near(obs[i, 0, :width], reference.observe(), atol=1e-5)
        for t in range(25):
            expected = reference.step(action[i, t])
            if reference.margin < MARGIN:
                break
            assert reward[i, t] == expected
            assert_near(obs[i, t + 1, :width], reference.observe(), atol=1e-5)
            compared += 1
        completed += reward[i].sum() > env.length
    assert compared > 0.85 * reward.size
    assert share == 0.0 or completed > 0.3 * len(obs)


def test_numpad_sequences_are_all_paths_of_neighbours():
    """The counts for 2 x 2 pads are worked out by hand, the others are from the design."""
    for settings, count in [
        ({}, 496),
        ({"neighbours": 4, "train_tasks": 40}, 80),
        ({"length": 5}, 1208),
        ({"size": 4}, 1764),
        ({"size": 2, "length": 2, "train_tasks": 4}, 12),
        ({"size": 2, "length": 2, "neighbours": 4, "train_tasks": 4}, 8),
    ]:
        env: Any = taskbelief.make("numpad", **settings)
        sequences = np.asarray(env.hypotheses(0)[0].sequence)
        assert len(sequences) == count == len(np.unique(sequences, axis=0))
        x, y = sequences % env.size, sequences // env.size
        dx, dy = np.abs(np.diff(x)), np.abs(np.diff(y))
        reach = np.maximum(dx, dy) if env.neighbours == 8 else dx + dy
        assert np.all(reach == 1)
        assert all(len(set(row)) == env.length for row in sequences.tolist())


def cue_block(env, pads, num=300):
    tasks, obs, action, _ = played(env, num)
    return tasks, obs, action, obs[:, :, -pads * 9 :].reshape(num, -1, pads, 9)


def test_numpad_cues_show_places_of_the_sequence_in_the_first_observation():
    env = taskbelief.make("numpad", horizon=3, cues="first", cue_share=1.0)
    tasks, obs, _, cues = cue_block(env, 4)
    shown = cues[:, 0].sum(-1)
    np.testing.assert_array_equal(cues[:, 0], np.eye(9)[tasks.sequence] * shown[..., None])
    assert 0.65 < shown.mean() < 0.85  # all places in half of the episodes, half in the rest
    assert np.all(cues[:, 1:] == 0)
    _, hidden, _, no_cues = cue_block(env.at_test(), 4)
    assert hidden.shape == obs.shape and np.all(no_cues == 0)


def test_numpad_cues_show_the_next_pad():
    env = taskbelief.make("numpad", horizon=8, cues="next", cue_share=1.0)
    tasks, obs, _, cues = cue_block(env, 1)
    lit = obs[:, :, 13:17].argmax(-1)
    right = np.eye(9)[np.take_along_axis(tasks.sequence, lit, axis=1)]
    shown = cues[:, :, 0].sum(-1)
    np.testing.assert_array_equal(cues[:, :, 0], right * shown[..., None])
    assert 0.65 < shown.mean() < 0.85


def test_numpad_mercy_keeps_the_lights_on_for_some_wrong_presses():
    merciful = taskbelief.make("numpad", horizon=40, mercy_share=1.0)
    kept = []
    for env in (merciful, merciful.at_test()):
        _, obs, _, _ = played(env, 200)
        lit = obs[:, :, 13:17].argmax(-1)
        lost = (lit[:, :-1] >= 1) & (lit[:, 1:] == 0)
        kept.append(1 - lost.sum() / (lit >= 1).sum())
    assert kept[0] > kept[1] + 0.05


def test_semicircle():
    env = taskbelief.make("semicircle", horizon=40)
    tasks, obs, action, reward = played(env)
    compared = 0
    for i, angle in enumerate(tasks.angle):
        reference = SemicircleReference(env, angle, obs[i, 0])
        assert not np.any(obs[i, 0, :2])
        for t in range(40):
            expected = reference.step(action[i, t])
            if reference.margin < MARGIN:
                break
            assert reward[i, t] == expected
            if expected:  # teleported to the origin, with a new heading
                assert not np.any(obs[i, t + 1, :2])
                assert_near(np.hypot(*obs[i, t + 1, 2:]), 1.0, atol=1e-6)
                reference.place(obs[i, t + 1])
            assert_near(obs[i, t + 1], reference.observe(), atol=1e-4)
            compared += 1
    assert compared > 0.8 * reward.size
    assert reward.sum() > TRAJECTORIES


def test_noisy_target():
    env = taskbelief.make("noisy_target", horizon=60)
    tasks, obs, action, reward = played(env)
    np.testing.assert_allclose(np.linalg.norm(tasks.target, axis=-1), 1.0, rtol=1e-6)
    expected = np.zeros(reward.shape)
    for i, target in enumerate(tasks.target):
        reference = NoisyTargetReference(env, target)
        for t in range(60):
            expected[i, t] = reference.step(action[i, t])
            assert_near(obs[i, t + 1], reference.observe(), atol=1e-5)
    # Bernoulli rewards: as many as the reference expects, in each range of probabilities.
    assert set(np.unique(reward)) == {0.0, 1.0}
    for low, high in [(0, 0.05), (0.05, 0.2), (0.2, 0.49), (0.49, 0.51)]:
        here = (expected >= low) & (expected < high)
        spread = np.sqrt(np.sum((expected * (1 - expected))[here]))
        assert here.sum() > 100
        assert abs(np.sum((reward - expected)[here])) < 4 * spread


def test_bandit():
    env = taskbelief.make("bandit", horizon=50)
    tasks, obs, action, reward = played(env)
    assert np.all(obs == 1.0)
    expected = np.take_along_axis(tasks.probabilities, action, axis=1)
    for low in np.arange(0, 1, 0.1):
        here = (expected >= low) & (expected < low + 0.1)
        spread = np.sqrt(np.sum((expected * (1 - expected))[here]))
        assert abs(np.sum((reward - expected)[here])) < 4 * spread
    assert set(np.unique(reward)) == {0.0, 1.0}


def test_sparse_navigation():
    env = taskbelief.make("sparse_navigation", episodes=3)
    tasks, obs, action, reward = played(env)
    np.testing.assert_allclose(np.linalg.norm(tasks.goal, axis=-1), 1.0, rtol=1e-6)
    compared = 0
    for i, goal in enumerate(tasks.goal):
        for episode in range(3):
            reference = SparseNavigationReference(env, goal)
            for t in range(20 * episode, 20 * episode + 20):
                assert_near(obs[i, t], reference.observe(), atol=1e-5)
                expected = reference.step(action[i, t])
                if reference.margin < MARGIN:
                    break
                assert_near(reward[i, t], expected, atol=1e-5)
                compared += 1
    assert compared > 0.8 * reward.size
    assert reward.sum() > TRAJECTORIES


def test_cheetah_velocity_is_brax_with_another_reward():
    """Along Brax's own states, because feet on the ground amplify rounding from step to step."""
    brax = pytest.importorskip("brax.envs")
    env = taskbelief.make("cheetah_velocity")
    raw = brax.get_environment("halfcheetah", backend="spring")
    keys = jax.random.split(jax.random.key(0), num := 250)
    tasks = jax.vmap(env.sample_task)(keys)
    actions = jax.random.uniform(jax.random.key(1), (num, 10, 6), minval=-1, maxval=1)

    @jax.jit
    @jax.vmap
    def play(key, actions, task):
        state = raw.reset(key)
        first, _ = env.reset(key, task)

        def step(state, action):
            obs, own, reward, _ = env.step(key, State(state), action, task)
            after = raw.step(state.replace(metrics=dict(state.metrics)), action)
            found = obs, own.body.pipeline_state
            return after, (found, (after.obs, after.pipeline_state), reward)

        return (first, state.obs), jax.lax.scan(step, state, actions)[1]

    (our_first, first), (ours, theirs, reward) = play(keys, actions, tasks)
    np.testing.assert_allclose(our_first, first, atol=1e-6)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, ours, theirs)
    velocity = np.asarray(ours[0], np.float64)[:, :, 8]
    ratio = velocity / np.asarray(tasks.speed, np.float64)[:, None]
    np.testing.assert_allclose(reward, np.maximum(1 - np.abs(ratio - 1), 0), atol=1e-5)
    assert 0.1 < np.mean(np.asarray(reward) > 0) < 0.9
