import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief

pytest.importorskip("gymnasium")
from gymnasium.utils.env_checker import check_env

from taskbelief.adapters import gymnasium as adapter


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
        goals.append(tuple(np.asarray(env.task.goal).tolist()))
    assert goals[0] == goals[1] != goals[2] == goals[3]


@pytest.mark.parametrize("new_tasks", [False, True])
def test_vector_environment(new_tasks):
    env = adapter.make_vec("sparse_navigation", 5, new_tasks=new_tasks, episode_steps=4, episodes=2)
    obs, _ = env.reset(seed=0)
    first = np.asarray(env.tasks.goal)
    assert obs in env.observation_space
    for t in range(1, 9):
        obs, reward, terminated, truncated, info = env.step(np.ones((5, 2), np.float32))
        assert obs.shape == (5, 2) and reward.shape == (5,) and not terminated.any()
        assert np.all(truncated == (t % 4 == 0))
        if t % 4 == 0:
            np.testing.assert_array_equal(obs, 0.0)
            np.testing.assert_allclose(np.stack(info["final_obs"]), 0.4, atol=1e-6)
        else:
            assert info == {}
    assert np.array_equal(first, env.tasks.goal) != new_tasks
    env.reset(seed=0)
    np.testing.assert_array_equal(env.tasks.goal, first)


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
