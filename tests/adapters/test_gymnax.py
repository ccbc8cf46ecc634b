import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief

pytest.importorskip("gymnax")
from taskbelief.adapters import gymnax as adapter

NAMES = [name for name in taskbelief.environments() if name != "cheetah_velocity"]


@pytest.mark.parametrize("name", NAMES)
def test_random_rollout_under_jit_vmap_scan(name):
    env, params = adapter.make(name)
    limit = env.env.spec.episode_steps

    @jax.jit
    @jax.vmap
    def rollout(key):
        obs, state = env.reset(key, params)

        def step(carry, key):
            _, state = carry
            action = env.action_space(params).sample(key)
            obs, state, reward, terminated, truncated, info = env.step(key, state, action, params)
            return (obs, state), (obs, reward, terminated, truncated, info["final_observation"])

        return jax.lax.scan(step, (obs, state), jax.random.split(key, limit + 5))[1]

    obs, reward, terminated, truncated, final = rollout(jax.random.split(jax.random.key(0), 8))
    assert obs.shape == final.shape == (8, limit + 5, env.env.spec.obs_dim)
    assert np.all(np.isfinite(obs)) and np.all(np.isfinite(reward))
    assert not np.any(terminated)
    np.testing.assert_array_equal(np.flatnonzero(truncated[0]), [limit - 1])
    assert env.observation_space(params).contains(obs[0, 0])
    running = ~np.asarray(truncated)
    np.testing.assert_array_equal(obs[running], final[running])


def test_auto_reset_keeps_the_task_unless_new_ones_are_asked_for():
    settings = {"episode_steps": 4, "episodes": 3}
    for new_tasks in (False, True):
        env, params = adapter.make("sparse_navigation", new_tasks=new_tasks, **settings)
        _, state = env.reset(jax.random.key(0), params)
        goals = []
        for i in range(24):
            goals.append(np.asarray(state.task.goal))
            obs, state, *_ = env.step(jax.random.key(i), state, jnp.ones(2), params)
            if i % 4 == 3:
                np.testing.assert_array_equal(obs, 0.0)
        changes = [i for i in range(1, 24) if not np.array_equal(goals[i], goals[i - 1])]
        assert changes == ([12] if new_tasks else [])


def test_params_are_the_task():
    env, params = adapter.make("bandit", arms=2)
    sure = params._replace(probabilities=jnp.array([0.0, 1.0]))
    _, state = env.reset(jax.random.key(0), sure)
    for arm in (0, 1):
        assert env.step(jax.random.key(1), state, jnp.array(arm), sure)[2] == arm
    batch = env.task_set("train", 3)
    _, states = jax.vmap(env.reset, in_axes=(0, 0))(jax.random.split(jax.random.key(0), 3), batch)
    assert states.time.shape == (3,)
