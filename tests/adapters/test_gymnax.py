import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief

pytest.importorskip("gymnax")
from gymnax.environments import environment

from taskbelief.adapters import gymnax as adapter
from tests.adapters.tally import Number, Tally

NAMES = [name for name in taskbelief.environments() if name != "cheetah_velocity"]


@pytest.mark.parametrize("name", NAMES)
def test_random_rollout_under_jit_vmap_scan(name):
    """Every step is one of the environment, also the last of a meta-episode; the observation
    after that one is the first of another task."""
    env, params = adapter.make(
        name, **({"episode_steps": 3} if name == "sparse_navigation" else {"horizon": 12})
    )
    raw, limit = env.env, env.env.spec.task_steps

    @jax.jit
    @jax.vmap
    def rollout(key):
        obs, state = env.reset(key, params)

        def step(carry, key):
            _, state = carry
            action = env.action_space(params).sample(key)
            obs, after, reward, terminated, truncated, info = env.step(key, state, action, params)
            flags = terminated, truncated, info["task_start"]
            task = raw.describe(after.task)
            return (obs, after), (obs, reward, flags, info["final_observation"], task, action)

        return jax.lax.scan(step, (obs, state), jax.random.split(key, limit + 3))[1]

    keys = jax.random.split(jax.random.key(0), 8)
    obs, reward, flags, final, tasks, action = jax.tree.map(np.asarray, rollout(keys))
    terminated, truncated, task_start = flags
    assert not terminated.any()
    np.testing.assert_array_equal(np.argwhere(truncated)[:, 1], [limit - 1] * 8)
    np.testing.assert_array_equal(task_start, truncated)
    np.testing.assert_array_equal(obs[~truncated], final[~truncated])
    num, size = raw.spec.action.num, raw.spec.obs_dim
    # the history: the last action and its reward, zeros at the start of a task
    played = np.eye(num)[action] if name == "bandit" else action
    np.testing.assert_allclose(final[..., size:-2], played, atol=1e-6)
    np.testing.assert_allclose(final[..., -2], reward, atol=1e-6)
    start = obs[:, limit - 1]
    assert not start[:, size:-1].any() and np.all(start[:, -1] == 1)
    # the task changes after the last step, and only then
    changed = np.any(tasks[:, 1:] != tasks[:, :-1], axis=-1)
    np.testing.assert_array_equal(changed.any(axis=0), np.arange(1, limit + 3) == limit - 1)
    assert changed[:, limit - 2].sum() >= 6  # the same of a hundred tasks is seldom drawn twice
    known = np.asarray(jax.vmap(raw.describe)(raw.task_set("train")))
    for task in tasks.reshape(-1, tasks.shape[-1]):
        assert np.abs(known - task).max(axis=-1).min() < 1e-5
    low, high = env.observation_space().low, env.observation_space().high
    assert np.all((obs >= low) & (obs <= high))


def walk(env, params, steps, action=None):
    action = jnp.array([0.5]) if action is None else action
    _, state = env.reset(jax.random.key(0), params)
    rows = []
    for i in range(steps):
        obs, state, *rest = env.step(jax.random.key(i), state, action, params)
        rows.append((obs, state, *rest))
    return rows


def test_the_steps_of_a_task_by_hand():
    env, params = adapter.make(Tally(), task=Number(jnp.array(2.0)))
    rows = walk(env, params, 9)
    rewards = [20.5, 21.0, 21.5, 22.0] * 2 + [20.5]
    assert [float(row[2]) for row in rows] == rewards
    assert [bool(row[3]) for row in rows] == [False] * 9
    assert [bool(row[4]) for row in rows] == [i == 7 for i in range(9)]
    infos = [row[5] for row in rows]
    assert [bool(info["episode_end"]) for info in infos] == [i in (3, 7) for i in range(9)]
    assert [bool(info["task_start"]) for info in infos] == [i == 7 for i in range(9)]
    assert [float(info["reached"][0]) for info in infos] == [0.5, 1, 1.5, 2] * 2 + [0.5]
    assert infos[7]["final_observation"].tolist() == [2.0, 0.5, 22.0, 0]
    assert rows[7][0].tolist() == [0, 0, 0, 1] and rows[3][0].tolist() == [0, 0.5, 22.0, 1]


def test_five_values():
    env, params = adapter.make(Tally(), task=Number(jnp.array(2.0)), five_values=True)
    rows = walk(env, params, 8)
    assert [len(row) for row in rows] == [5] * 8
    assert [bool(row[3]) for row in rows] == [False] * 7 + [True]
    assert rows[7][4]["final_observation"].tolist() == [2.0, 0.5, 22.0, 0]
    _, state = env.reset(jax.random.key(0), params)
    late = state.replace(time=jnp.array(8))
    assert env.is_terminal(late, params) and env.discount(late, params) == 0
    assert not env.is_terminal(state, params) and env.discount(state, params) == 1


def test_one_task_for_ever_or_a_new_one_each_time():
    env, params = adapter.make(Tally())
    numbers = [float(row[1].task.number) for row in walk(env, params, 80)]
    assert {numbers[i : i + 8][0] for i in range(7, 72, 8)} == {1, 2, 3}
    assert all(len(set(numbers[i : i + 8])) == 1 for i in range(7, 72, 8))
    fixed = params.replace(task=Number(jnp.array(7.0)))
    assert {float(row[1].task.number) for row in walk(env, fixed, 20)} == {7}
    env, params = adapter.make(Tally(), tasks="holdout")
    assert {float(row[1].task.number) for row in walk(env, params, 60)} == {4, 5}
    # one task per element of a batch
    params = params.replace(task=env.task_set("train", 3))
    axes = params.replace(max_steps_in_episode=None, task=0)
    reset = jax.vmap(env.reset, in_axes=(0, axes))
    _, states = reset(jax.random.split(jax.random.key(0), 3), params)
    assert states.task.number.tolist() == [1, 2, 3]


def test_params_are_gymnaxs():
    env, params = adapter.make("bandit")
    assert isinstance(params, environment.EnvParams)
    assert params.max_steps_in_episode == 100 and params.task is None
    assert hash(params) == hash(env.default_params) and params == env.default_params
    short = params.replace(max_steps_in_episode=3)
    flags = [bool(row[4]) for row in walk(env, short, 7, jnp.array(0))]
    assert flags == [False, False, True, False, False, True, False]


def test_an_environment_is_a_value():
    env, _ = adapter.make("bandit", arms=3)
    again = copy.deepcopy(env)
    assert env == again == adapter.make("bandit", arms=3)[0] and hash(env) == hash(again)
    assert env != adapter.make("bandit", arms=4)[0] and env.name == "bandit"
    before = adapter.TaskEnvironment.step._cache_size()
    for made in (env, again):
        _, state = made.reset(jax.random.key(0))
        made.step(jax.random.key(0), state, 1)
    assert adapter.TaskEnvironment.step._cache_size() <= before + 1


def test_what_gymnax_asks_of_an_environment():
    env, params = adapter.make(Tally(discrete=True))
    obs, state = env.reset(jax.random.key(0), params)
    np.testing.assert_array_equal(env.get_obs(state, params, jax.random.key(0)), obs)
    assert not env.is_terminal(state, params) and not env.is_terminated(state, params)
    assert env.discount(state, params) == 1 and env.num_actions == 3
    assert env.is_truncated(state.replace(time=jnp.array(8)), params)
    space = env.state_space(params)
    assert {path: box.shape for path, box in space.spaces.items()} == {
        ".time": (),
        ".task.number": (),
        ".play.state": (),
        ".play.time": (),
        ".play.elapsed": (),
        ".obs": (6,),
    }
