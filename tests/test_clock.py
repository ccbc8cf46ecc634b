"""Tests of the elapsed time in inputs, which a critic needs to learn values around a reset."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import taskbelief
from taskbelief import problem, rollout, trainer, training
from taskbelief.agents import _history
from taskbelief.learners import svg0
from taskbelief.types import Agent, Features
from tests import probes


@dataclass(frozen=True)
class LastStep(probes.Probe):
    """The last of four steps of each episode has reward 1, and observations are zeros: a critic
    without memory learns the values only if it reads the elapsed share of the episode."""

    steps: int = 4
    episodes: int = 3

    def observe(self, elapsed, task):
        del elapsed, task
        return jnp.zeros(2)

    def pay(self, elapsed, action, task):
        return (elapsed == self.steps - 1).astype(jnp.float32)


def memoryless(spec):
    """Returns an agent without memory, whose features are the current input."""

    def unroll(params, carry, inputs, key):
        x = _history.read(spec, inputs)
        return carry, Features(x, x, x, jnp.zeros(x.shape[:2]))

    return Agent(lambda key: {}, lambda batch: (), unroll, lambda *_: (jnp.zeros(()), {}))


def test_a_critic_without_memory_learns_the_values_around_a_reset():
    """From the reward backwards, the values are 1, g, g², g³, g = 0.3, plus the next episode's,
    g⁴ ~ 0.01: the residual vanishes. Without the clock the second and the third step have equal
    inputs, and half the squared error is at least ((g - g²) / 2)² / 2 / 4 * 2 ~ 0.003."""
    env = LastStep()
    config = svg0.Config(
        privileged=False, gamma=0.3, learning_rate=3e-3, learning_rate_end=1.0, target_rate=0.1
    )
    posed, agent = problem.make(env), memoryless(env.spec)
    learner = svg0.make(posed, agent, config, 1000)
    sizes = training.Config(envs=16, updates=16, batch=16, replay_rows=128)
    made = trainer.make(posed, agent, learner, sizes)

    @jax.jit
    def run(key):
        return jax.lax.scan(lambda state, _: made.step(state), made.init(key), None, 60)[1]

    metrics = run(jax.random.key(0))
    assert metrics["critic_loss"][-1] < 5e-4
    np.testing.assert_allclose(metrics["q"][-1], (1 + 0.3 + 0.09 + 0.027) / 4, atol=0.02)


def test_elapsed_restarts_with_each_episode_and_reached_is_what_a_reset_hides():
    env = probes.TaskReset(steps=3, episodes=2)
    tasks = env.task_set("train")

    def act(carry, inputs, key):
        return carry, jnp.zeros((2, 1)), jnp.zeros(2)

    played = rollout.collect(env, tasks, jax.random.key(0), act, ())
    inputs = played.inputs
    np.testing.assert_array_equal(inputs.elapsed[:, 0], [0, 1, 2, 0, 1, 2, 3])
    np.testing.assert_array_equal(inputs.elapsed[:, 0], inputs.elapsed[:, 1])
    # the probe observes the elapsed share of the episode
    np.testing.assert_allclose(inputs.obs[:, 0, 0], np.array([0, 1, 2, 0, 1, 2, 3]) / 3, rtol=1e-6)
    np.testing.assert_allclose(
        inputs.reached[:, 0, 0], np.array([0, 1, 2, 3, 1, 2, 3]) / 3, rtol=1e-6
    )
    np.testing.assert_allclose(
        _history.clock(env.spec, inputs)[:, 0, 0], np.array([0, 1, 2, 0, 1, 2, 3]) / 3, rtol=1e-6
    )


def test_where_no_reset_happens_nothing_is_stored_twice():
    env = taskbelief.make("semicircle", horizon=4)
    assert env.spec.episodes_per_task == 1 and not env.spec.terminates
    tasks = env.task_set("train", 2)

    def act(carry, inputs, key):
        return carry, jnp.zeros((2, 2)), jnp.zeros(2)

    assert rollout.collect(env, tasks, jax.random.key(0), act, ()).inputs.reached is None
