"""Tests the meta-episode that the adapters share, by hand and against the library's own loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import rollout
from taskbelief.adapters._meta_episode import View
from tests.adapters.tally import Number, Tally


def play(view, actions, task, limit=None):
    """Returns the first observation, then (obs, reward, over, episode_end, reached) per step."""
    obs, at = view.start(jax.random.key(0), task)
    rows = [np.asarray(obs).tolist()]
    step = jax.jit(lambda key, at, action: view.step(key, at, action, task, limit))
    for i, action in enumerate(actions):
        at, seen = step(jax.random.key(i), at, action)
        rows.append(jax.tree.map(lambda x: np.asarray(x).tolist(), tuple(seen)))
    return rows


def test_two_episodes_of_a_task_by_hand():
    found = play(View(Tally()), [jnp.array([0.5])] * 8, Number(jnp.array(2.0)))
    # observation; previous action; previous reward; whether the state was reset
    assert found == [
        [0, 0, 0, 1],
        ([0.5, 0.5, 20.5, 0], 20.5, False, False, [0.5]),
        ([1.0, 0.5, 21.0, 0], 21.0, False, False, [1.0]),
        ([1.5, 0.5, 21.5, 0], 21.5, False, False, [1.5]),
        ([0.0, 0.5, 22.0, 1], 22.0, False, True, [2.0]),
        ([0.5, 0.5, 20.5, 0], 20.5, False, False, [0.5]),
        ([1.0, 0.5, 21.0, 0], 21.0, False, False, [1.0]),
        ([1.5, 0.5, 21.5, 0], 21.5, False, False, [1.5]),
        ([2.0, 0.5, 22.0, 0], 22.0, True, True, [2.0]),  # no reset after the last step
    ]


def test_an_episode_that_ends_of_its_own_ends_inside_and_its_clock_starts_again():
    view = View(Tally(edge=2.0, episodes=1, discrete=True))
    found = play(view, [jnp.array(1), jnp.array(1), jnp.array(0), jnp.array(0)], Number(1.0))
    assert found == [
        [0, 0, 0, 0, 0, 1],
        ([1, 0, 1, 0, 11, 0], 11, False, False, [1]),
        ([0, 0, 1, 0, 12, 1], 12, False, True, [2]),
        ([0, 1, 0, 0, 10, 0], 10, False, False, [0]),
        ([0, 1, 0, 0, 10, 0], 10, True, True, [0]),
    ]
    # time for two episodes, 8 steps: episodes of 2 steps, 4 steps, and the 2 that remain
    rows = play(
        View(Tally(edge=2.0, discrete=True)),
        [jnp.array(a) for a in (0, 2, 0, 0, 0, 0, 0, 0)],
        Number(1.0),
    )
    assert [i for i, row in enumerate(rows) if i and row[3]] == [2, 6, 8]
    assert [i for i, row in enumerate(rows) if i and row[2]] == [8]


def test_a_limit_cuts_short_and_does_not_prolong():
    for limit, last in ((3, 3), (20, 8)):
        rows = play(View(Tally()), [jnp.array([0.5])] * last, Number(1.0), limit)
        assert [row[2] for row in rows[1:]] == [False] * (last - 1) + [True]
        assert rows[-1][0][0] == rows[-1][4][0]  # no reset


def test_without_history_the_observation_is_the_environments():
    found = play(View(Tally(), history=False), [jnp.array([0.5])] * 2, Number(1.0))
    assert [found[0], found[1][0], found[2][0]] == [[0], [0.5], [1]]


@pytest.mark.parametrize(
    ("tasks", "numbers"), [("train", {1, 2, 3}), ("holdout", {4, 5}), ("all", {6, 7, 8, 9})]
)
def test_tasks_come_from_the_set_that_is_asked_for(tasks, numbers):
    draw = jax.jit(jax.vmap(View(Tally(), tasks).draw))
    found, counts = np.unique(draw(jax.random.split(jax.random.key(0), 3000)).number, False, False,
                              True)  # fmt: skip
    assert set(found) == numbers
    # equally often, within four standard deviations
    mean = 3000 / len(numbers)
    assert np.all(np.abs(counts - mean) < 4 * np.sqrt(mean))


def test_unknown_tasks_and_history_are_refused():
    with pytest.raises(ValueError, match="tasks='test': must be one of train, holdout, all"):
        View(Tally(), "test")
    with pytest.raises(ValueError, match="history=2: must be True or False"):
        View(Tally(), history=2)


def test_what_is_outside_the_box_is_played_and_shown_as_clipped():
    for action, played in ((7.0, 1.0), (-np.inf, -1.0), (np.nan, 0.0)):
        row = play(View(Tally()), [jnp.array([action])], Number(1.0))[1]
        assert row[0] == [played, played, 10 + played, 0]


def test_bounds():
    low, high = View(Tally(discrete=True)).bounds()
    np.testing.assert_allclose(low, [-4, 0, 0, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(high, [8, 1, 1, 1, 110, 1], rtol=1e-5)
    low, high = View(Tally()).bounds()
    np.testing.assert_allclose(low, [-4, -1, 0, 0], rtol=1e-5)
    low, high = View(taskbelief.make("cheetah_velocity"), history=False).bounds()
    assert low.tolist() == [-np.inf] * 17 and high.tolist() == [np.inf] * 17


@pytest.mark.parametrize("name", ["sparse_navigation", "noisy_target", "semicircle", "numpad"])
def test_observations_are_within_their_bounds_and_come_near_them(name):
    """A push into a corner takes the agent as far out as the arena or the time limit allows."""
    env = taskbelief.make(name)
    view = View(env, history=False)
    task = jax.tree.map(lambda leaf: leaf[0], env.task_set("train", 1))

    @jax.jit
    def far(key):
        def step(at, key):
            at, seen = view.step(key, at, jnp.array([1.0, 0.0 if name == "semicircle" else 1.0]),
                                 task)  # fmt: skip
            return at, seen.reached

        return jax.lax.scan(step, view.start(key, task)[1], jax.random.split(key, 60))[1]

    seen = np.asarray(jax.vmap(far)(jax.random.split(jax.random.key(0), 16)))
    low, high = view.bounds()
    assert np.all((seen >= low) & (seen <= high))
    np.testing.assert_allclose(seen[..., 0].max(), high[0], rtol=1e-5)


def test_it_is_what_the_librarys_own_loop_plays():
    """Sparse navigation is deterministic: equal actions lead to equal meta-episodes."""
    env = taskbelief.make("sparse_navigation", episode_steps=4, episodes=3)
    tasks = env.task_set("holdout", 2)
    actions = jax.random.uniform(jax.random.key(1), (12, 2, 2), minval=-1, maxval=1)
    played = rollout.collect(
        env,
        tasks,
        jax.random.key(0),
        lambda time, inputs, key: (time + 1, actions[time], jnp.zeros(2)),
        jnp.zeros((), jnp.int32),
    )
    seen = played.inputs
    expected = np.concatenate(
        [seen.obs, seen.prev_action, seen.prev_reward[..., None], seen.episode_start[..., None]], -1
    )
    for i in range(2):
        rows = play(View(env), actions[:, i], jax.tree.map(lambda leaf, i=i: leaf[i], tasks))
        found = np.asarray([rows[0], *(row[0] for row in rows[1:])])
        np.testing.assert_allclose(found, expected[:, i], atol=1e-6)
        assert [row[3] for row in rows[1:]] == played.episode_end[:, i].tolist()
