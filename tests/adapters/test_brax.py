import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")
pytestmark = pytest.mark.filterwarnings("ignore")

from taskbelief.adapters import brax as adapter  # noqa: E402


def test_brax_trains_on_it(monkeypatch):
    from brax.training.agents.ppo import train as ppo

    # Brax 0.14 calls what JAX 0.10 took away; this is JAX's own advice for a replacement.
    monkeypatch.setattr(
        jax,
        "device_put_replicated",
        lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree),
        raising=False,
    )

    env = adapter.make("semicircle", horizon=10)
    _, _, metrics = ppo.train(
        environment=env,
        num_timesteps=512,
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
    assert 0.0 <= metrics["eval/episode_reward"] <= 10.0
    assert metrics["eval/avg_episode_length"] == 10


def test_auto_reset_keeps_the_task_and_renews_chance():
    from brax.envs import training

    env = adapter.make("noisy_target", horizon=5)
    wrapped = training.wrap(env, episode_length=env.episode_length)
    state = jax.jit(wrapped.reset)(jax.random.split(jax.random.PRNGKey(0), 64))
    target = np.asarray(state.pipeline_state.task.target)
    step = jax.jit(wrapped.step)
    rewards = []
    for t in range(60):
        state = step(state, jnp.zeros((64, 2)))
        rewards.append(np.asarray(state.reward))
        assert np.all(state.done == (t % 5 == 4))
    np.testing.assert_array_equal(state.pipeline_state.task.target, target)
    episodes = np.stack(rewards).reshape(12, 5, 64)
    assert not all(np.array_equal(episodes[0], episode) for episode in episodes[1:])


def test_state_is_reset_between_the_episodes_of_a_task():
    env = adapter.make("sparse_navigation", episode_steps=3, episodes=2)
    assert env.episode_length == 6
    state = env.reset(jax.random.key(0))
    places = []
    for _ in range(6):
        state = env.step(state, jnp.ones(2))
        places.append(float(np.asarray(state.obs)[0]))
    np.testing.assert_allclose(places, [0.1, 0.2, 0.0, 0.1, 0.2, 0.3], atol=1e-6)


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="bandit has discrete actions"):
        adapter.make("bandit")
