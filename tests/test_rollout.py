"""The loop of meta-episodes: whose noise is held for how long."""

import jax
import numpy as np
import pytest

import taskbelief
from taskbelief import rollout, supervision


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
    teach = supervision.dense(env, None)
    played = rollout.collect(env, tasks, jax.random.key(0), act, (), teach)
    np.testing.assert_array_equal(plain.paid, plain.reward)
    np.testing.assert_array_equal(played.reward, plain.reward)
    np.testing.assert_array_equal(played.inputs.prev_reward, plain.inputs.prev_reward)
    before_reset = np.asarray(played.inputs.obs[1:4])  # the fifth is where the next one starts
    gap = np.linalg.norm(before_reset - np.asarray(tasks.goal), axis=-1)
    np.testing.assert_allclose(played.paid[:3], -gap, rtol=1e-5)
    with pytest.raises(ValueError, match="no dense reward"):
        supervision.dense(taskbelief.make("bandit"), None)
