"""The loop of meta-episodes: whose noise is held for how long."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

import taskbelief
from taskbelief import problem, rollout
from taskbelief.envs.sparse_navigation import SparseNavigation


@dataclass(frozen=True)
class Edge(SparseNavigation):
    """Sparse navigation on a floor with an edge."""

    @property
    def spec(self):
        return replace(super().spec, terminates=True)

    def step(self, key, state, action, task):
        obs, state, reward, _ = super().step(key, state, action, task)
        return obs, state, reward, obs[0] > 1.2


@pytest.mark.parametrize("hold", [1, 4])
def test_noise_is_held_for_as_long_as_asked(hold):
    env = taskbelief.make("semicircle", horizon=12)
    tasks = env.task_set("train", 3)

    def act(core, inputs, key):
        del inputs
        noise = jax.random.uniform(key, (3,))
        return core, jax.numpy.stack([noise, -noise], axis=-1), noise

    played = rollout.collect(env, tasks, jax.random.key(0), act, (), hold=hold)
    blocks = np.asarray(played.log_prob).reshape(12 // hold, hold, 3)
    assert (blocks == blocks[:, :1]).all()
    assert len(np.unique(blocks[:, 0])) == 3 * 12 // hold


def test_a_dense_reward_is_for_learning_alone():
    """Agents see the sparse reward and scores count it; actor and critic learn from the other."""
    env = taskbelief.make("sparse_navigation", episode_steps=4, episodes=2)
    tasks = env.task_set("train", 3)

    def act(core, inputs, key):
        action = jax.random.uniform(key, (3, 2), minval=-1.0)
        return core, action, jax.numpy.zeros(3)

    plain = rollout.collect(env, tasks, jax.random.key(0), act, ())
    dense = problem.make(env, dense=True)
    teach = dense.teacher(labels=False)
    played = rollout.collect(env, tasks, jax.random.key(0), act, (), teach)
    np.testing.assert_array_equal(plain.paid, plain.reward)
    np.testing.assert_array_equal(played.reward, plain.reward)
    np.testing.assert_array_equal(played.inputs.prev_reward, plain.inputs.prev_reward)
    before_reset = np.asarray(played.inputs.obs[1:4])  # the fifth is where the next one starts
    gap = np.linalg.norm(before_reset - np.asarray(tasks.goal), axis=-1)
    np.testing.assert_allclose(played.paid[:3], -gap, rtol=1e-5)
    revealed = dense.revealed().env
    oracle = rollout.collect(revealed, tasks, jax.random.key(0), act, (), teach)
    np.testing.assert_array_equal(oracle.paid, played.paid)
    with pytest.raises(ValueError, match="no dense reward"):
        problem.make(taskbelief.make("bandit"), dense=True)


def test_an_episode_that_ends_early_starts_anew():
    """Each meta-episode by its own clock: one that terminates is reset, its neighbour goes on."""
    env = Edge(episode_steps=6, episodes=2, step_size=0.5)
    tasks = env.task_set("train", 2)
    speed = jax.numpy.array([[1.0, 0.0], [0.1, 0.0]])  # past the edge after 3 steps; never

    played = rollout.collect(
        env,
        tasks,
        jax.random.key(0),
        lambda core, inputs, key: (core, speed, jax.numpy.zeros(2)),
        (),
    )
    starts = np.asarray(played.inputs.episode_start)
    assert np.flatnonzero(starts[:, 0]).tolist() == [0, 3, 6, 9]
    assert np.flatnonzero(starts[:, 1]).tolist() == [0, 6]
    np.testing.assert_array_equal(played.inputs.obs[[0, 3, 6, 9], 0], 0.0)
    np.testing.assert_array_equal(np.flatnonzero(played.terminated[:, 0]), [2, 5, 8, 11])
