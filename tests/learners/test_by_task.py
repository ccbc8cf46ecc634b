"""Tests of the replay of tasks, with transitions that carry their task, meta-episode and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.learners import _by_task
from taskbelief.types import AgentInput, Label, Trajectory

STEPS = 4


def played(ids, reached=True) -> Trajectory:
    """Meta-episodes [STEPS, B] with these ids. Observations are (id, step), rewards 10 times the
    step; the observation that an action reaches is 0.1 steps before the next one."""
    ids = jnp.asarray(ids, jnp.float32)
    at = jnp.arange(STEPS + 1.0)[:, None] * jnp.ones(len(ids))
    obs = jnp.stack([jnp.broadcast_to(ids, at.shape), at], axis=-1)
    before = obs - jnp.asarray([0.0, 0.1])
    none = at > 9
    inputs = AgentInput(obs, at, at, none, none, at, before if reached else None)
    step = at[:-1]
    ended = step == 2
    return Trajectory(
        inputs, step + 100, step, 10 * step, ended, ended, ended, Label((), reward=-step)
    )


def filled(kind, calls, num, capacity=12, rings=1):
    """Returns (the buffer, the tasks of each call) after `calls` additions of `num` meta-episodes,
    whose ids are 100 times their task plus the number of the call, from 1."""
    example = jax.eval_shape(lambda: played([0.0] * num))
    buffer = kind.init(capacity, example, rings)
    turns = []
    for call in range(1, calls + 1):
        turn = kind.tasks(buffer, num)
        turns.append(turn.tolist())
        buffer = kind.add(buffer, played(100 * turn + call))
    return buffer, turns


def test_a_transition_leads_to_what_came_before_the_reset():
    found = _by_task.transitions_of(played([7, 8]))
    np.testing.assert_array_equal(found.obs[:, 1], [[8, 0], [8, 1], [8, 2], [8, 3]])
    np.testing.assert_allclose(found.next_obs[:, 1, 1], [0.9, 1.9, 2.9, 3.9], rtol=1e-6)
    np.testing.assert_array_equal(found.action[:, 0], [100, 101, 102, 103])
    np.testing.assert_array_equal(found.reward[:, 0], [0, 10, 20, 30])  # observed
    np.testing.assert_array_equal(found.learning_reward[:, 0], [0, -1, -2, -3])  # learnt from
    np.testing.assert_array_equal(found.terminated[:, 0], [False, False, True, False])
    no_reset = _by_task.transitions_of(played([7, 8], reached=False))
    np.testing.assert_array_equal(no_reset.next_obs[:, 1, 1], [1, 2, 3, 4])


def test_tasks_are_played_in_turn_and_the_newest_are_kept_of_each():
    kind = _by_task.replay(5, 8, 8, STEPS)
    buffer, turns = filled(kind, calls=8, num=2, capacity=13)  # rounded up: 3 of each task
    assert turns == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4], [0, 1], [2, 3], [4, 0]]
    names = buffer.rows.obs[0, :, :, 0, 0]
    # task 0 is added in calls 1, 3, 6 and 8: the last overwrites the first
    assert names.tolist() == [
        [8, 3, 6],
        [101, 104, 106],
        [202, 204, 207],
        [302, 305, 307],
        [403, 405, 408],
    ]


def test_the_batch_is_of_all_the_history_and_the_context_of_the_latest_meta_episode():
    kind = _by_task.replay(3, 60, 50, STEPS)
    buffer, _ = filled(kind, calls=4, num=2, capacity=9)  # each task was played two or three times
    sample = jax.jit(kind.sample, static_argnums=2)(buffer, jax.random.key(0), 20)
    names = np.asarray(sample.batch.obs[..., 0])
    assert names.shape == (60, 20)
    assert sample.context.obs.shape == (50, 20, 2)
    task = names // 100
    assert np.all(task == task[0])  # each column is of one task
    np.testing.assert_array_equal(sample.context.obs[..., 0] // 100, task[:50])  # the same in both
    history = {0: {1, 2, 4}, 1: {101, 103, 104}, 2: {202, 203}}
    latest = {0: 4, 1: 104, 2: 203}
    for column in range(20):
        of = int(task[0, column])
        assert set(names[:, column]) == history[of]
        assert set(np.asarray(sample.context.obs[:, column, 0])) == {latest[of]}
    assert set(task[0]) == {0, 1, 2}
    for part in sample:  # fields of a transition stay together, and every step is drawn
        step = np.asarray(part.obs[..., 1])
        assert set(step.ravel()) == {0, 1, 2, 3}
        np.testing.assert_array_equal(part.reward, 10 * step)
        np.testing.assert_array_equal(part.action, 100 + step)
        np.testing.assert_allclose(part.next_obs[..., 1], step + 0.9, rtol=1e-5)


def test_context_and_batch_never_share_a_draw():
    """For one task played once, the steps drawn for both are independent: each of 16 pairs of steps
    is drawn in about 25 of 400 places."""
    kind = _by_task.replay(1, 400, 400, STEPS)
    buffer, _ = filled(kind, calls=1, num=1, capacity=1)
    sample = kind.sample(buffer, jax.random.key(0), 1)
    batch, context = (np.asarray(part.obs[:, 0, 1], int) for part in sample)
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (batch, context), 1)
    np.testing.assert_array_less(np.abs(pairs - 25), 4.5 * np.sqrt(400 * 15 / 256))


def test_the_context_is_of_the_first_episodes():
    """Of two episodes with two steps each, it covers the first or both, about equally often."""
    kind = _by_task.replay(1, 1, 40, STEPS // 2)
    buffer, _ = filled(kind, calls=1, num=1, capacity=1)
    sample = kind.sample(buffer, jax.random.key(0), 100)
    steps = [set(column) for column in np.asarray(sample.context.obs[..., 1]).T]
    assert steps.count({0, 1}) + steps.count({0, 1, 2, 3}) == 100
    assert abs(steps.count({0, 1}) - 50) < 4 * np.sqrt(100 / 4)


def test_what_has_not_been_played_is_not_sampled():
    kind = _by_task.replay(6, 20, 20, STEPS)
    buffer, _ = filled(kind, calls=1, num=4)
    sample = kind.sample(buffer, jax.random.key(1), 40)
    for part in sample:
        assert set(np.unique(part.obs[..., 0])) == {1, 101, 201, 301}


def test_rings_hold_tasks_of_their_own_and_give_equal_parts():
    kind = _by_task.replay(6, 9, 3, STEPS)
    buffer, turns = filled(kind, calls=2, num=4, rings=2)
    assert turns == [[0, 1, 3, 4], [2, 0, 5, 3]]
    assert buffer.rows.reward.shape == (2, 3, 2, STEPS)
    names = buffer.rows.obs[:, :, :, 0, 0]
    assert names.tolist() == [[[1, 2], [101, 0], [202, 0]], [[301, 302], [401, 0], [502, 0]]]
    sample = kind.sample(buffer, jax.random.key(0), 20)
    for part in sample:
        task = np.asarray(part.obs[0, :, 0]) // 100
        assert set(task[:10]) == {0, 1, 2}
        assert set(task[10:]) == {3, 4, 5}


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"num": 3, "rings": 2}, "a batch, 3: must be a multiple of train.shards 2"),
        ({"num": 2, "rings": 4}, "tasks to train on, 6: must be a multiple of train.shards 4"),
        ({"num": 8}, "train.envs 8: must be at most the 6 tasks"),
    ],
)
def test_sizes_that_do_not_fit(sizes, said):
    with pytest.raises(ValueError, match=said):
        filled(_by_task.replay(6, 2, 2, STEPS), calls=1, **sizes)
