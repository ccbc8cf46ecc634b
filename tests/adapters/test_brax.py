from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.types import Array, Continuous, EnvSpec, Reals

pytest.importorskip("brax")
pytestmark = pytest.mark.filterwarnings("ignore")

from taskbelief.adapters import brax as adapter  # noqa: E402


class Clock(NamedTuple):
    time: Array


@dataclass(frozen=True)
class Wages:
    """Pays 1, 2, 4, ... at its steps, whatever is done, and ends of its own after five."""

    @property
    def spec(self):
        number = Reals(1, (0.0,), (1.0,))
        return EnvSpec(
            obs_dim=1, action=Continuous(2), task=number, episode_steps=8, terminates=True
        )

    def sample_task(self, key):
        return jax.random.uniform(key)

    def reset(self, key, task):
        return jnp.zeros(1), Clock(jnp.zeros(()))

    def step(self, key, state, action, task):
        time = state.time + 1.0
        return time[None], Clock(time), 2.0**state.time, time >= 5.0


def test_brax_trains_on_it(monkeypatch):
    """Brax's own count of what its agent was paid, and for how long, is that of the rules."""
    from brax.training.agents.ppo import train as ppo

    # Brax 0.14 calls what JAX 0.10 took away; this is JAX's own advice for a replacement.
    monkeypatch.setattr(
        jax,
        "device_put_replicated",
        lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree),
        raising=False,
    )

    env = adapter.TaskEnv("wages", Wages())  # type: ignore[arg-type]
    assert env.episode_length == 8
    make_policy, params, metrics = ppo.train(
        environment=env,
        num_timesteps=128,
        episode_length=env.episode_length,
        num_envs=8,
        num_eval_envs=8,
        num_evals=2,
        batch_size=8,
        num_minibatches=1,
        unroll_length=8,
        num_updates_per_batch=1,
        normalize_observations=True,
    )
    assert metrics["eval/episode_reward"] == 1 + 2 + 4 + 8 + 16
    assert metrics["eval/avg_episode_length"] == 5
    action, _ = make_policy(params, deterministic=True)(jnp.ones((3, 1)), jax.random.PRNGKey(0))
    assert action.shape == (3, env.action_size) and np.all(np.abs(action) < 1)


def test_auto_reset_keeps_the_task_and_renews_chance():
    from brax.envs import training

    env = adapter.make("noisy_target", horizon=5)
    wrapped = training.wrap(env, episode_length=env.episode_length)
    state = jax.jit(wrapped.reset)(jax.random.split(jax.random.PRNGKey(0), 64))
    target = np.asarray(state.pipeline_state.task.target)
    assert len(np.unique(target, axis=0)) == 64
    step = jax.jit(wrapped.step)
    rewards = []
    for t in range(60):
        state = step(state, jnp.zeros((64, 2)))
        rewards.append(np.asarray(state.reward))
        assert np.all(state.done == (t % 5 == 4))
    np.testing.assert_array_equal(state.pipeline_state.task.target, target)
    # a coin of 1 / 26 at every step: other falls in each episode, and as many as that
    episodes = np.stack(rewards).reshape(12, 5, 64)
    assert len(np.unique(episodes.reshape(12, -1), axis=0)) == 12
    wins, spread = episodes.sum(), np.sqrt(episodes.size * 25) / 26
    assert abs(wins - episodes.size / 26) < 4 * spread


def test_state_is_reset_between_the_episodes_of_a_task():
    env = adapter.make("sparse_navigation", episode_steps=3, episodes=2)
    assert env.episode_length == 6
    state = env.reset(jax.random.key(0))
    task = np.asarray(state.pipeline_state.task.goal)
    assert not np.allclose(task, env.reset(jax.random.key(1)).pipeline_state.task.goal)
    places = []
    for _ in range(6):
        state = env.step(state, jnp.ones(2))
        places.append(float(np.asarray(state.obs)[0]))
        np.testing.assert_array_equal(state.pipeline_state.task.goal, task)
    np.testing.assert_allclose(places, [0.1, 0.2, 0.0, 0.1, 0.2, 0.3], atol=1e-6)


def test_an_episode_that_ends_of_its_own_is_done():
    env = adapter.TaskEnv("wages", Wages())  # type: ignore[arg-type]
    state = env.reset(jax.random.key(0))
    found = []
    for _ in range(5):
        state = env.step(state, jnp.ones(2))
        found.append((float(state.reward), float(state.done)))
    assert found == [(1, 0), (2, 0), (4, 0), (8, 0), (16, 1)]


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="bandit has discrete actions"):
        adapter.make("bandit")
