from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief.envs.sparse_navigation import SparseNavigation

pytest.importorskip("gymnax")
from taskbelief.adapters import gymnax as adapter

NAMES = [name for name in taskbelief.environments() if name != "cheetah_velocity"]


@dataclass(frozen=True)
class Edge(SparseNavigation):
    """Sparse navigation on a floor with an edge."""

    @property
    def spec(self):
        return replace(super().spec, terminates=True)

    def step(self, key, state, action, task):
        obs, state, reward, _ = super().step(key, state, action, task)
        return obs, state, reward, obs[0] > 0.25


@pytest.mark.parametrize("name", NAMES)
def test_random_rollout_under_jit_vmap_scan(name):
    """Every step is the environment's own, that of the truncation too; what is seen after it is
    the start of another episode."""
    settings = {"episode_steps": 12} if name == "sparse_navigation" else {"horizon": 12}
    env, params = adapter.make(name, **settings)
    limit = 12

    @jax.jit
    @jax.vmap
    def rollout(key):
        obs, state = env.reset(key, params)

        def step(carry, key):
            _, state = carry
            action = env.action_space(params).sample(key)
            obs, after, reward, terminated, truncated, info = env.step(key, state, action, params)
            raw = env.env.step(key, state.inner, action, params)
            found = obs, reward, terminated, truncated, info["final_observation"]
            return (obs, after), (*found, raw[0], after.time)

        return jax.lax.scan(step, (obs, state), jax.random.split(key, limit + 5))[1]

    keys = jax.random.split(jax.random.key(0), 8)
    obs, reward, terminated, truncated, final, raw, time = map(np.asarray, rollout(keys))
    assert obs.shape == final.shape == (8, limit + 5, env.env.spec.obs_dim)
    assert not np.any(terminated)
    for row in truncated:
        np.testing.assert_array_equal(np.flatnonzero(row), [limit - 1])
    assert env.observation_space(params).contains(obs[0, 0])
    # a teleported semicircle is turned by chance, which here is another
    same = np.broadcast_to((reward == 0)[..., None] | (name != "semicircle"), obs.shape)
    assert same.mean() > 0.9 and same[:, limit - 1].all()
    np.testing.assert_allclose(final[same], raw[same], atol=1e-6)
    np.testing.assert_array_equal(obs[~truncated], final[~truncated])
    np.testing.assert_array_equal(time[0], [*range(1, limit), 0, 1, 2, 3, 4, 5])
    start = obs[:, limit - 1]
    if name == "numpad":  # at rest, no light on, no pad pressed
        np.testing.assert_array_equal(start[:, 2:], np.eye(24)[[11] * 8])
        assert np.all(start[:, :2] != final[:, limit - 1, :2])
    elif name == "semicircle":
        np.testing.assert_array_equal(start[:, :2], 0.0)
    else:
        np.testing.assert_array_equal(start, float(name == "bandit"))


def test_the_step_that_runs_out_of_time_says_so_and_shows_where_it_ended():
    env, params = adapter.make("sparse_navigation", episode_steps=3)
    _, state = env.reset(jax.random.key(0), params)
    seen: list[Any] = []
    for i in range(4):
        obs, state, _, *flags, info = env.step(jax.random.key(i), state, jnp.ones(2), params)
        assert [bool(info[name]) for name in ("terminated", "truncated")] == list(map(bool, flags))
        seen.append((*map(bool, flags), float(obs[0]), float(info["final_observation"][0])))
    wanted = [(False, False, 0.1, 0.1), (False, False, 0.2, 0.2), (False, True, 0.0, 0.3)]
    np.testing.assert_allclose(seen, [*wanted, (False, False, 0.1, 0.1)], atol=1e-6)


def test_an_episode_that_ends_of_its_own_is_terminated_and_not_truncated():
    env = adapter.TaskEnvironment("edge", Edge(episode_steps=5), False)
    params = env.default_params
    _, state = env.reset(jax.random.key(0), params)
    seen = []
    for i in range(4):
        obs, state, _, *flags, info = env.step(jax.random.key(i), state, jnp.ones(2), params)
        seen.append((*map(bool, flags), float(obs[0]), float(info["final_observation"][0])))
    wanted = [(False, False, 0.1, 0.1), (False, False, 0.2, 0.2), (True, False, 0.0, 0.3)]
    np.testing.assert_allclose(seen, [*wanted, (False, False, 0.1, 0.1)], atol=1e-6)


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
        assert np.array_equal(goals[0], params.goal) != new_tasks


def test_params_are_the_task():
    env, params = adapter.make("bandit", arms=2)
    sure = params._replace(probabilities=jnp.array([0.0, 1.0]))
    _, state = env.reset(jax.random.key(0), sure)
    for arm in (0, 1):
        assert env.step(jax.random.key(1), state, jnp.array(arm), sure)[2] == arm
    batch = env.task_set("train", 3)
    _, states = jax.vmap(env.reset, in_axes=(0, 0))(jax.random.split(jax.random.key(0), 3), batch)
    assert states.time.shape == (3,)
