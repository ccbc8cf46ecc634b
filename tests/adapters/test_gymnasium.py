import warnings
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief.envs.sparse_navigation import SparseNavigation

pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env

from taskbelief.adapters import gymnasium as adapter


@dataclass(frozen=True)
class Edge(SparseNavigation):
    """Sparse navigation on a floor with an edge."""

    @property
    def spec(self):
        return replace(super().spec, terminates=True)

    def step(self, key, state, action, task):
        obs, state, reward, _ = super().step(key, state, action, task)
        return obs, state, reward, obs[0] > 0.25


@pytest.mark.parametrize("name", taskbelief.environments())
def test_gymnasium_finds_nothing_wrong(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # observations have no bounds, and say so
        check_env(adapter.make(name))


def test_reset_keeps_the_task_and_a_seed_draws_one():
    env = adapter.make("semicircle", horizon=3)
    env.reset(seed=1)
    task = env.task
    env.reset()
    assert env.task is task
    env.reset(seed=2)
    assert env.task.angle != task.angle
    env.reset(seed=1)
    assert env.task.angle == task.angle
    env.reset(options={"task": task._replace(angle=np.float32(1.0))})
    assert env.task.angle == 1.0
    ends = [env.step(env.action_space.sample())[3] for _ in range(3)]
    assert ends == [False, False, True]


def test_new_tasks_come_when_all_episodes_were_played():
    env = adapter.make("sparse_navigation", new_tasks=True, episodes=2)
    goals = []
    for i in range(4):
        env.reset(seed=0 if i == 0 else None)
        ends = [env.step(np.ones(2, np.float32))[2:4] for _ in range(20)]
        assert ends == [(False, False)] * 19 + [(False, True)]
        goals.append(tuple(np.asarray(env.task.goal).tolist()))
    assert goals[0] == goals[1] != goals[2] == goals[3]


@pytest.mark.parametrize("new_tasks", [False, True])
def test_vector_environment(new_tasks):
    """Two tasks of two episodes: kept over the first episode's end, renewed over the second's."""
    env = adapter.make_vec("sparse_navigation", 5, new_tasks=new_tasks, episode_steps=4, episodes=2)
    obs, _ = env.reset(seed=0)
    goals = [np.asarray(env.tasks.goal)]
    assert obs in env.observation_space and len(np.unique(goals[0], axis=0)) == 5
    for t in range(1, 18):
        obs, reward, terminated, truncated, info = env.step(np.ones((5, 2), np.float32))
        assert obs.shape == (5, 2) and reward.shape == (5,) and not terminated.any()
        assert np.all(truncated == (t % 4 == 0))
        np.testing.assert_allclose(obs, 0.1 * (t % 4), atol=1e-6)
        if t % 4 == 0:
            np.testing.assert_allclose(np.stack(info["final_obs"]), 0.4, atol=1e-6)
            assert info["_final_obs"].all()
        else:
            assert info == {}
        goals.append(np.asarray(env.tasks.goal))
    for t in range(1, 18):
        changed = np.any(goals[t] != goals[t - 1], axis=-1)
        assert np.all(changed == (new_tasks and t in (8, 16))), t
    env.reset(seed=0)
    np.testing.assert_array_equal(env.tasks.goal, goals[0])


def test_each_of_a_vector_has_its_own_clock():
    """One falls off the edge at every third step; the others have their time."""
    env = adapter.TaskVectorEnv("edge", Edge(episode_steps=4, episodes=2), 2, new_tasks=True)
    env.reset(seed=0)
    goals, ends = [np.asarray(env.tasks.goal)], []
    for _ in range(9):
        action = np.array([[1.0, 0.0], [0.5, 0.0]], np.float32)
        obs, _, terminated, truncated, info = env.step(action)
        ends.append((*terminated.tolist(), *truncated.tolist()))
        for i in np.flatnonzero(terminated | truncated):
            np.testing.assert_allclose(info["final_obs"][i], [0.3 if i == 0 else 0.2, 0], atol=1e-6)
            np.testing.assert_array_equal(obs[i], 0.0)
        goals.append(np.asarray(env.tasks.goal))
    fell = [t + 1 for t, end in enumerate(ends) if end[0]]
    late = [t + 1 for t, end in enumerate(ends) if end[3]]
    assert fell == [3, 6, 9] and late == [4, 8]
    assert not any(end[1] or end[2] for end in ends)
    for i, renewed in ((0, [6]), (1, [8])):
        found = [t for t in range(1, 10) if np.any(goals[t][i] != goals[t - 1][i])]
        assert found == renewed


def test_resets_of_a_vector_count_as_episodes_too():
    """As documented for both: another task once the task's episodes have been played."""
    for new_tasks in (False, True):
        env = adapter.make_vec("sparse_navigation", 3, new_tasks=new_tasks, episodes=2)
        goals = []
        for i in range(4):
            env.reset(seed=0 if i == 0 else None)
            env.step(np.ones((3, 2), np.float32))
            goals.append(np.asarray(env.tasks.goal))
        np.testing.assert_array_equal(goals[0], goals[1])
        np.testing.assert_array_equal(goals[2], goals[3])
        assert np.all(np.any(goals[1] != goals[2], axis=-1) == new_tasks)
    env.reset(options={"task": env.tasks._replace(goal=np.zeros((3, 2), np.float32))})
    np.testing.assert_array_equal(env.tasks.goal, 0.0)


def test_vector_environment_plays_as_the_environment_does():
    env = adapter.make_vec("numpad", 3)
    obs, _ = env.reset(seed=3)
    raw, state = env.env, env._state
    action = jnp.full((3, 2), 0.5)
    expected = jax.vmap(raw.step)(jax.random.split(jax.random.key(0), 3), state, action, env.tasks)
    obs, reward, *_ = env.step(np.asarray(action))
    np.testing.assert_allclose(obs, expected[0], atol=1e-6)
    np.testing.assert_array_equal(reward, expected[2])


def test_pictures():
    env = adapter.make("numpad", render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    frame = env.render()
    assert frame is not None
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    with pytest.raises(ValueError, match="render_mode"):
        adapter.make("numpad", render_mode="human")
