import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("brax")
pytestmark = pytest.mark.filterwarnings("ignore")

from taskbelief.adapters import brax as adapter  # noqa: E402
from tests.adapters.tally import Number, Tally  # noqa: E402


@pytest.fixture
def trainable(monkeypatch):
    # Brax 0.14 calls a function that JAX 0.10 removed; JAX recommends this replacement.
    monkeypatch.setattr(
        jax,
        "device_put_replicated",
        lambda tree, devices: jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree),
        raising=False,
    )


@pytest.mark.usefixtures("trainable")
def test_brax_trains_on_it():
    """Brax's evaluation reports the return and the length that the rules imply."""
    from brax.training.agents.ppo import train as ppo

    env = adapter.make(Wages())
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
    # an episode terminates after 5 steps, and the task goes on
    assert metrics["eval/episode_reward"] == 1 + 2 + 4 + 8 + 16 + 1 + 2 + 4
    assert metrics["eval/avg_episode_length"] == 8
    obs = jnp.ones((3, env.observation_size))
    action, _ = make_policy(params, deterministic=True)(obs, jax.random.PRNGKey(0))
    assert action.shape == (3, env.action_size) and np.all(np.abs(action) < 1)


@pytest.mark.usefixtures("trainable")
def test_brax_trains_off_policy_on_it():
    from brax.training.agents.sac import train as sac

    env = adapter.make(Wages())
    _, _, metrics = sac.train(
        environment=env,
        num_timesteps=64,
        episode_length=env.episode_length,
        num_envs=8,
        num_eval_envs=8,
        num_evals=2,
        batch_size=8,
        min_replay_size=8,
        grad_updates_per_step=1,
        normalize_observations=True,
    )
    assert metrics["eval/episode_reward"] == 38 and metrics["eval/avg_episode_length"] == 8


@dataclasses.dataclass(frozen=True)
class Wages(Tally):
    """Rewards of 1, 2, 4, ... at the steps of an episode, for any action; terminates after five."""

    @property
    def spec(self):
        return dataclasses.replace(
            super().spec, episode_steps=8, episodes_per_task=1, terminates=True
        )

    def step(self, key, state, action, task):
        return (state + 1.0)[None], state + 1.0, 2.0**state, state + 1.0 >= 5.0


def wrapped(env, num):
    from brax.envs import training

    made = training.wrap(env, episode_length=env.episode_length)
    state = jax.jit(made.reset)(jax.random.split(jax.random.PRNGKey(0), num))
    return state, jax.jit(made.step)


def test_the_steps_of_a_task_by_hand():
    env = adapter.make(Tally(), task=Number(jnp.array(2.0)))
    state, step = wrapped(env, 1)
    assert state.obs.tolist() == [[0, 0, 0, 1]] and env.observation_size == 4
    rows = []
    for _ in range(9):
        state = step(state, jnp.array([[0.5]]))
        rows.append(state)
    assert [float(row.reward[0]) for row in rows] == [20.5, 21, 21.5, 22] * 2 + [20.5]
    assert [row.obs[0].tolist() for row in rows[3:5]] == [[0, 0.5, 22, 1], [0.5, 0.5, 20.5, 0]]
    assert rows[7].obs[0].tolist() == [0, 0, 0, 1]
    ends = [[i == 7] for i in range(9)]
    assert [row.done.tolist() for row in rows] == ends
    assert [row.info["truncation"].tolist() for row in rows] == ends
    assert [row.info["task_start"].tolist() for row in rows] == ends
    assert [bool(row.info["episode_end"][0]) for row in rows] == [i in (3, 7) for i in range(9)]
    assert [float(row.info["reached"][0, 0]) for row in rows[:4]] == [0.5, 1, 1.5, 2]


def test_auto_resets_draw_new_tasks():
    state, step = wrapped(adapter.make(Tally(), tasks="holdout"), 64)
    numbers = [np.asarray(state.pipeline_state.task.number)]
    for t in range(1, 25):
        state = step(state, jnp.zeros((64, 1)))
        numbers.append(np.asarray(state.pipeline_state.task.number))
        paid = numbers[t - 1] * 10
        np.testing.assert_array_equal(state.reward, paid)
        if t % 8:
            np.testing.assert_array_equal(numbers[t], numbers[t - 1])
        else:  # a new draw from two tasks
            assert 0.2 < np.mean(numbers[t] != numbers[t - 1]) < 0.8
    assert {*np.unique(numbers)} == {4, 5}


def test_chance_is_renewed():
    env = adapter.make("noisy_target", horizon=5)
    state, step = wrapped(env, 64)
    rewards = []
    for _ in range(60):
        state = step(state, jnp.zeros((64, 2)))
        rewards.append(np.asarray(state.reward))
    # reward 1 with probability 1 / 26 at each step: new draws in each meta-episode
    episodes = np.stack(rewards).reshape(12, 5, 64)
    assert len(np.unique(episodes.reshape(12, -1), axis=0)) == 12
    wins, spread = episodes.sum(), np.sqrt(episodes.size * 25) / 26
    assert abs(wins - episodes.size / 26) < 4 * spread


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="bandit has discrete actions"):
        adapter.make("bandit")


def test_no_body():
    env = adapter.make("semicircle")
    for name in ("sys", "dt", "body"):
        assert not hasattr(env, name)
    with pytest.raises(AttributeError):
        _ = jax.eval_shape(env.reset, jax.random.key(0)).pipeline_state.x


def test_a_body_can_be_drawn_and_randomised(monkeypatch):
    """Renders a trajectory as HTML, and randomises two bodies, one of them raised, with Brax."""
    from brax.envs.wrappers import training
    from brax.io import html

    env = adapter.make("cheetah_velocity")
    own = env.body.sys
    assert float(env.dt) == pytest.approx(0.05) and env.sys is own

    def randomise(sys):
        raised = jnp.stack([sys.init_q, sys.init_q.at[1].add(1.0)])
        axes = jax.tree.map(lambda leaf: None, sys).tree_replace({"init_q": 0})
        return sys.tree_replace({"init_q": raised}), axes

    made = training.DomainRandomizationVmapWrapper(env, randomise)
    key = jax.random.PRNGKey(0)
    state = jax.jit(made.reset)(jnp.stack([key, key]))
    height = np.asarray(state.pipeline_state.x.pos)[:, 0, 2]
    assert height[1] - height[0] == pytest.approx(1.0, abs=1e-5)
    assert env.sys is own and env.body.sys is own  # the randomised system is removed again
    page = html.render(env.sys, [jax.tree.map(lambda leaf: leaf[0], state.pipeline_state)])
    assert "<html" in page
    # trace a step without compiling it, and record the system that it uses
    step, seen = env.body.step, []
    monkeypatch.setattr(
        env.body, "step", lambda *args: seen.append(env.body.sys.init_q) or step(*args)
    )
    jax.eval_shape(made.step, state, jnp.zeros((2, 6)))
    assert isinstance(seen[0], jax.core.Tracer) and env.body.sys is own
