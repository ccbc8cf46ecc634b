"""The loop of meta-episodes: whose noise is held for how long."""

import jax
import numpy as np
import pytest

import taskbelief
from taskbelief import rollout


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
