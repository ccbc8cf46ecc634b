"""Tests of privileged critics, and of separate limits on gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.learners import _features, svg0
from taskbelief.networks import heads
from taskbelief.types import Continuous, Discrete, Privileged
from tests import wiring


def test_a_critic_is_told_the_task_of_its_own_meta_episode():
    """The task is appended to the features at each step and at the end, relative to each
    observation."""
    obs = np.array([[[1.0], [2.0]], [[3.0], [4.0]], [[5.0], [6.0]]])
    none = np.zeros((2, 2))
    batch = wiring.batch_of(obs, none, none, none)
    task = jnp.array([[10.0, 20.0], [10.0, 20.0]])
    batch = batch._replace(label=batch.label._replace(task=task))
    extra = Privileged(1, lambda obs, task: obs + task[..., None])
    critic = jnp.arange(6.0).reshape(3, 2, 1)
    expected = np.array([[[0, 11], [1, 22]], [[2, 13], [3, 24]], [[4, 15], [5, 26]]])
    np.testing.assert_array_equal(heads.with_task(critic, extra, batch), expected)
    np.testing.assert_array_equal(heads.with_task(critic[:2], extra, batch), expected[:2])
    assert heads.with_task(critic, None, batch) is critic


def test_the_critic_alone_is_wider_for_it():
    spec = wiring.spec_of(obs_dim=2)
    extra = Privileged(5, lambda obs, task: obs)
    assert _features.sizes(spec, wiring.toy(), None) == (2, 3)
    assert _features.sizes(spec, wiring.toy(), extra) == (2, 8)


@pytest.mark.parametrize(("slope", "reward", "moved"), [(1e6, 0.0, "agent"), (0.0, 1e6, "critic")])
def test_a_long_gradient_shortens_no_other(slope, reward, moved):
    """A second update has a far larger loss of the agent or error of the critic: the other parts
    move exactly as in an update without it."""
    config = svg0.Config(privileged=False, actor_hidden=8, critic_hidden=8, max_gradient_norm=1.0)
    spec = wiring.spec_of(action=Discrete(2), obs_dim=2, steps=1)
    agent = wiring.toy(aux=lambda weight, label: weight * jnp.mean(label.h))
    learner = svg0.make(wiring.posed(spec), agent, config, 10)
    obs = np.random.default_rng(0).normal(size=(2, 4, 2))

    def batch(slope, reward):
        zero = np.zeros((1, 4))
        action = np.array([[0, 1, 0, 1]])
        return wiring.batch_of(obs, action, zero - 0.7, zero + reward, zero == 0, h=slope)

    @jax.jit
    def update(state, batch):
        return learner.update(state, batch, jax.random.key(1))[0]

    state = update(jax.jit(learner.init)(jax.random.key(0)), batch(1e-3, 1e-3))

    def parts(state):
        heads = state.params["heads"]
        return {"agent": state.params["agent"], "actor": heads["actor"], "critic": heads["critic"]}

    usual, long = (parts(update(state, batch(*sizes))) for sizes in ((0, 0), (slope, reward)))
    same = {
        name: all(jax.tree.leaves(jax.tree.map(np.array_equal, usual[name], long[name])))
        for name in usual
    }
    assert same == {name: name != moved for name in usual}


@pytest.mark.parametrize(("given", "kept"), [(None, -3.0), (0.5, 0.5)])
def test_the_usual_entropy_is_kept_unless_another_is_given(given, kept):
    """For three continuous numbers it is -3: the log cost rises in proportion to the deficit."""
    config = svg0.Config(
        privileged=False, actor_hidden=4, critic_hidden=4, entropy_rate=0.1, entropy_target=given
    )
    spec = wiring.spec_of(action=Continuous(3), obs_dim=2, steps=1)
    learner = svg0.make(wiring.posed(spec), wiring.toy(), config, 10)
    state = learner.init(jax.random.key(0))
    none = np.zeros((1, 2))
    batch = wiring.batch_of(np.zeros((2, 2, 2)), np.zeros((1, 2, 3)), none, none)
    after, metrics = jax.jit(learner.update)(state, batch, jax.random.key(1))
    np.testing.assert_allclose(
        after.log_entropy_cost - state.log_entropy_cost,
        0.1 * (kept - metrics["entropy"]),
        rtol=1e-4,
    )
