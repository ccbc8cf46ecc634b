"""Tests of the training step: collection, replay and updates, their order and keys."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import replay, training
from tests import toys

ENVS, UPDATES, BATCH, WARMUP = 4, 3, 16, 2
COLLECTIONS = [WARMUP + 1, 1, 1]  # of three iterations


@functools.cache
def program(on_policy=False, **sizes):
    """Returns (seed) -> (states before and after each of three iterations, metrics of each)."""
    settings = {
        "envs": ENVS, "updates": UPDATES, "batch": BATCH, "replay_rows": 12, "warmup": WARMUP,
    }  # fmt: skip
    config = training.Config(**settings | sizes)
    updates = 1 if on_policy else config.updates
    learner = toys.learner(config.envs if on_policy else config.batch, 3 * updates, on_policy)
    made = training.make(toys.World(), toys.agent(), learner, toys.teacher(), config)

    @jax.jit
    def run(seed):
        def step(state, collections):
            after, metrics = made.step(state, collections)
            return after, (after, metrics)

        first = made.init(jax.random.key(seed))
        return first, jax.lax.scan(step, first, jnp.array(COLLECTIONS))[1]

    def states_and_metrics(seed):
        first, (after, metrics) = run(seed)
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], (after, metrics)) for i in range(3)]
        return [first, *(state for state, _ in each)], [found for _, found in each]

    return states_and_metrics


def trained(seed=0, **sizes):
    return program(**sizes)(seed)


def kept(state):
    """Returns observations, actions and labels of the replay's rows, [rows, ...] each."""
    rows = state.replay.rows
    merged = (rows.inputs.obs, rows.action, rows.label.h)
    return [np.asarray(leaf).reshape(-1, *leaf.shape[2:]) for leaf in merged]


def names(observed):
    """Returns the reset keys in first observations, each unique to a meta-episode."""
    return [tuple(row) for row in np.asarray(observed)[..., 2:].reshape(-1, 4)]


def unlike(marked):
    """Returns whether keys are pairwise different."""
    each = np.asarray(marked).reshape(-1, 4)
    return len(np.unique(each, axis=0)) == len(each)


def test_only_tasks_of_the_training_set_are_played_and_all_of_them():
    states, _ = trained(envs=40, replay_rows=200)
    played = kept(states[-1])[0][:, 0, 0]
    assert set(played) == set(toys.TRAIN)
    # each of 200 is one of six with equal probability; within four deviations
    counts = np.unique(played, return_counts=True)[1]
    np.testing.assert_array_less(np.abs(counts - 200 / 6), 4 * np.sqrt(200 * 5 / 36))


def test_the_replay_grows_and_then_holds_the_newest():
    states, _ = trained()
    assert [int(state.replay.size) for state in states] == [0, 12, 12, 12]
    # the replay holds three iterations; the two of the warm-up are overwritten first. Actions
    # contain the version of the parameters, the newest at the start of the iteration
    versions = [np.sort(kept(state)[1][:, 0, 4]).tolist() for state in states]
    # these rows are still empty, zeros
    assert versions[0] == [0] * 12
    assert versions[1] == [0] * 12
    assert versions[2] == [0] * 8 + [3] * 4
    assert versions[3] == [0] * 4 + [3] * 4 + [6] * 4
    # the other rows are unchanged
    newest = [set(names(kept(state)[0][:, 0])) for state in states]
    assert len(newest[2] & newest[1]) == 8
    assert len(newest[3] & newest[2]) == 8
    assert len(newest[3] & newest[1]) == 4


def test_what_was_just_played_can_be_learnt_from_at_once():
    states, _ = trained()
    for number, (before, after) in enumerate(itertools.pairwise(states)):
        updates = slice(UPDATES * number, UPDATES * (number + 1))
        seen = set(names(states[-1].learner.first[updates]))  # 48 draws from 12 rows
        new = set(names(kept(after)[0][:, 0])) - set(names(kept(before)[0][:, 0]))
        assert new <= seen


def test_iterations_and_updates_differ_in_keys_and_batches():
    states, _ = trained()
    diary = states[-1].learner
    assert unlike(diary.keys)
    batches = [tuple(names(first)) for first in diary.first]
    assert len(set(batches)) == 3 * UPDATES
    # a batch is not drawn with the key that its update receives
    for number, key in enumerate(toys.keys_of(diary.keys)):
        buffer = states[1 + number // UPDATES].replay
        same = replay.sample(buffer, key, BATCH).inputs.obs[0]
        assert tuple(names(same)) != batches[number]
    # no key occurs twice in the meta-episodes of warm-up and iterations
    observed, acted, labelled = zip(*map(kept, states), strict=True)
    _, rows = np.unique(np.concatenate(observed)[:, 0, 2:], axis=0, return_index=True)
    rows = rows[np.concatenate(observed)[rows, 0, 1:].any(axis=-1)]  # without the empty ones
    made = [np.concatenate(observed)[rows][..., 2:], np.concatenate(labelled)[rows]]
    assert len(rows) == 4 * (WARMUP + 3)
    # parallel meta-episodes share the agent's key
    acting = np.unique(np.concatenate(acted)[rows][..., :4].reshape(-1, 4), axis=0)
    assert len(acting) == (WARMUP + 3) * toys.World().spec.task_steps
    each = [leaf.reshape(-1, 4) for leaf in (*made, acting, diary.keys)]
    assert unlike(np.concatenate(each))


def test_several_rings_are_all_learnt_from():
    states, _ = trained(shards=2, batch=120)
    rows = states[-1].replay.rows
    assert rows.reward.shape[:2] == (2, 6)
    rings = [set(names(rows.inputs.obs[ring, :, 0])) for ring in (0, 1)]
    for first in states[-1].learner.first[-UPDATES:]:
        drawn = [set(names(part)) for part in np.split(np.asarray(first), 2)]
        assert drawn == rings


def test_a_learners_own_replay_says_what_to_play():
    """This one selects tasks in turn: four in each of two warm-up and three more iterations."""
    own = replay.WHOLE._replace(tasks=lambda buffer, num: (buffer.next + jnp.arange(num)) % 6)
    learner = toys.learner(BATCH, 3 * UPDATES)._replace(replay=own)
    config = training.Config(envs=4, updates=UPDATES, batch=BATCH, replay_rows=20, warmup=2)
    made = training.make(toys.World(), toys.agent(), learner, toys.teacher(), config)

    @jax.jit
    def run(key):
        return jax.lax.scan(made.step, made.init(key), jnp.array([3, 1, 1]))[0]

    state = run(jax.random.key(0))
    assert kept(state)[0][:, 0, 0].tolist() == [i % 6 for i in range(20)]


def test_other_seeds_play_otherwise():
    one, other = (kept(trained(seed)[0][-1])[0] for seed in (0, 1))
    assert not set(names(one[:, 0])) & set(names(other[:, 0]))


def test_counters_and_metrics():
    states, metrics = trained()
    steps = ENVS * toys.World().spec.task_steps
    assert [int(state.env_steps) for state in states] == [steps * i for i in (0, 3, 4, 5)]
    assert [int(state.iteration) for state in states] == [0, 1, 2, 3]
    assert [int(state.learner.params["version"]) for state in states] == [0, 3, 6, 9]
    # a mean over the updates: of versions 0, 1, 2, then 3, 4, 5, ...
    assert [float(found["version"]) for found in metrics] == [1, 4, 7]
    # four rewards of 1000 times the task, plus 1 + 2 + 3 + 4, in the newest rows
    newest = kept(states[-1])[1][:, 0, 4] == 6
    tasks = kept(states[-1])[0][newest, 0, 0]
    assert float(metrics[-1]["return"]) == pytest.approx(4000 * tasks.mean() + 10)


def test_on_policy_learners_get_what_was_just_played_once():
    states, metrics = trained(on_policy=True)
    assert states[0].replay is states[-1].replay is None
    diary = states[-1].learner
    assert diary.params["version"] == 3  # one update an iteration
    assert unlike(diary.keys)
    assert len(set(names(diary.first))) == 3 * ENVS
    assert [int(state.env_steps) for state in states] == [0, 16, 32, 48]
    tasks = np.asarray(diary.first[..., 0])
    np.testing.assert_allclose(
        [found["return"] for found in metrics], 4000 * tasks.mean(axis=1) + 10, rtol=1e-6
    )
    # the whole meta-episode, with the observation after its last step
    np.testing.assert_array_equal(diary.last[..., :2], np.stack([tasks, 0 * tasks + 4], axis=-1))
