"""Tests of rollouts: resets, labels, keys and inputs of teachers."""

import dataclasses
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import posterior, rollout
from taskbelief.envs.sparse_navigation import SparseNavigation
from taskbelief.types import Continuous, Discrete, Label, Teacher
from tests import toys, wiring
from tests.wiring import small


@dataclass(frozen=True)
class Edge(SparseNavigation):
    """Sparse navigation that terminates beyond x = 1.2."""

    @property
    def spec(self):
        return replace(super().spec, terminates=True)

    def step(self, key, state, action, task):
        obs, state, reward, _ = super().step(key, state, action, task)
        return obs, state, reward, obs[0] > 1.2


def test_a_dense_reward_is_for_learning_alone():
    """Agents observe the sparse reward, and scores count it; actor and critic learn from the
    dense reward."""
    env = taskbelief.make("sparse_navigation", episode_steps=4, episodes=2)
    tasks = env.task_set("train", 3)

    def act(carry, inputs, key):
        action = jax.random.uniform(key, (3, 2), minval=-1.0)
        return carry, action, jnp.zeros(3)

    plain = rollout.collect(env, tasks, jax.random.key(0), act, ())
    teach = wiring.dense(env, None)
    played = rollout.collect(env, tasks, jax.random.key(0), act, (), teach)
    np.testing.assert_array_equal(plain.learning_reward, plain.reward)
    np.testing.assert_array_equal(played.reward, plain.reward)
    np.testing.assert_array_equal(played.inputs.prev_reward, plain.inputs.prev_reward)
    before_reset = np.asarray(played.inputs.obs[1:4])  # the fifth is the start of the next episode
    gap = np.linalg.norm(before_reset - np.asarray(tasks.goal), axis=-1)
    np.testing.assert_allclose(played.learning_reward[:3], -gap, rtol=1e-5)
    oracle = rollout.collect(
        wiring.revealed(env, "description"), tasks, jax.random.key(0), act, (), teach
    )
    np.testing.assert_array_equal(oracle.learning_reward, played.learning_reward)
    with pytest.raises(ValueError, match="no dense reward"):
        wiring.dense(taskbelief.make("bandit"), None)


def test_an_episode_that_ends_early_starts_anew():
    """Each meta-episode has its own clock: one that terminates is reset, the other continues."""
    env = Edge(episode_steps=5, episodes=2, step_size=0.5)
    tasks = env.task_set("train", 2)
    speed = jnp.array([[1.0, 0.0], [0.1, 0.0]])  # beyond 1.2 after 3 steps; never

    played = rollout.collect(
        env,
        tasks,
        jax.random.key(0),
        lambda carry, inputs, key: (carry, speed, jnp.zeros(2)),
        (),
    )
    starts = np.asarray(played.inputs.episode_start)
    # no episode starts at step 5, because the clock restarts: three steps, three, three, and one
    assert np.flatnonzero(starts[:, 0]).tolist() == [0, 3, 6, 9]
    assert np.flatnonzero(starts[:, 1]).tolist() == [0, 5]
    np.testing.assert_array_equal(played.inputs.obs[[0, 3, 6, 9], 0], 0.0)
    np.testing.assert_allclose(played.inputs.obs[[1, 2, 4, 10], 0, 0], [0.5, 1.0, 0.5, 0.5])
    np.testing.assert_allclose(played.inputs.obs[:, 1, 0], 0.05 * np.r_[:5, :6], atol=1e-6)
    assert np.flatnonzero(played.terminated[:, 0]).tolist() == [2, 5, 8]
    assert np.flatnonzero(played.episode_end[:, 0]).tolist() == [2, 5, 8, 9]
    assert not np.any(played.terminated[:, 1])
    assert np.flatnonzero(played.episode_end[:, 1]).tolist() == [4, 9]


def act(carry, inputs, key):
    """Returns the marks of its key as actions, for tasks of `World`."""
    size = inputs.obs.shape[1]
    said = jnp.append(toys.marks(key), 0.0)
    return carry, jnp.broadcast_to(said, (size, 5)), inputs.obs[0, :, 1]


def played_in(world, teach=None, num=3, **more):
    tasks = world.task_set("train", num)
    return rollout.collect(world, tasks, jax.random.key(0), act, (), teach, **more)


@pytest.mark.parametrize("ends_after", [0, 3])
def test_no_key_is_used_twice(ends_after):
    """No used key is split either: environment, agent and teacher have independent noise."""
    world = toys.World(episode_steps=5, episodes=2, ends_after=ends_after)
    played = played_in(world, toys.teacher())
    acted = played.action[:, 0, :4]  # parallel meta-episodes share the agent's key
    used = [played.inputs.obs[..., 2:], acted, played.label.h]
    keys = toys.keys_of(np.concatenate([np.asarray(part).reshape(-1, 4) for part in used]))
    assert len(keys) == 11 * 3 + 10 + 10 * 3
    split = jax.vmap(lambda key: jax.random.split(key, 3))
    children = split(keys).reshape(-1)
    family = jnp.concatenate([keys, children, split(children).reshape(-1)])
    assert len(np.unique(jax.random.key_data(family), axis=0)) == 13 * len(keys)


def test_what_is_recorded_is_what_happened():
    world = toys.World(episode_steps=4, episodes=2)
    played = played_in(world)
    task, clock = np.moveaxis(np.asarray(played.inputs.obs[..., :2]), -1, 0)
    np.testing.assert_array_equal(task, np.broadcast_to(toys.TRAIN[:3], (9, 3)))  # never changes
    # the second episode starts with a reset; none follows its last step
    np.testing.assert_array_equal(clock, np.r_[:4, :5][:, None] + 0.0 * task)
    np.testing.assert_array_equal(played.log_prob, clock[:-1])
    reward = 1000.0 * toys.TRAIN[:3] + np.r_[1:5, 1:5][:, None]
    np.testing.assert_array_equal(played.reward, reward)
    np.testing.assert_array_equal(played.inputs.prev_reward, np.vstack([0.0 * reward[:1], reward]))
    before = np.concatenate([np.zeros((1, 3, 5)), played.action])
    np.testing.assert_array_equal(played.inputs.prev_action, before)
    for flags, steps in (
        (played.inputs.episode_start, [0, 4]),
        (played.inputs.task_start, [0]),
        (played.episode_end, [3, 7]),
        (played.task_end, [7]),
        (played.terminated, []),
    ):
        np.testing.assert_array_equal(
            flags, np.isin(np.arange(len(flags)), steps)[:, None] & [1] * 3
        )
    assert played.label == Label((), None)


def test_a_teacher_sees_what_the_agent_sees_and_no_more_history():
    world = toys.World(episode_steps=3, episodes=2)
    looks = Teacher(
        lambda carry, key, inputs, state, task: (carry, (carry, inputs, state, task)),
        lambda obs: (jnp.zeros(()), jnp.zeros(6), jnp.zeros(5), jnp.zeros(()), jnp.zeros(6)),
        lambda carry, *now: (carry[0] + 1.0, *now),
    )
    played = played_in(world, looks)
    carry, inputs, state, task = played.label.h
    count, obs, action, reward, next_obs = carry
    moments = jax.tree.map(lambda leaf: leaf[:-1], played.inputs)
    jax.tree.map(np.testing.assert_array_equal, inputs, moments)
    np.testing.assert_array_equal(state.steps, moments.obs[..., 1])
    np.testing.assert_array_equal(task.number, moments.obs[..., 0])
    np.testing.assert_array_equal(count, np.arange(6.0)[:, None] + np.zeros(3))
    # at step t it has observed step t - 1, with the observation before any reset
    np.testing.assert_array_equal(obs[1:], moments.obs[:-1])
    np.testing.assert_array_equal(action[1:], played.action[:-1])
    np.testing.assert_array_equal(reward[1:], played.reward[:-1])
    np.testing.assert_array_equal(next_obs[1:, 0, 1], [1, 2, 3, 1, 2])


def test_the_memory_of_the_posteriors_teacher_is_the_filters():
    env = taskbelief.make("noisy_target", horizon=8)
    teach = wiring.teacher(env, "posterior_goal")[1]
    teach = teach._replace(label=lambda carry, *_: (carry, carry))

    def outward(carry, inputs, key):
        return carry, jax.random.uniform(key, (3, 2), minval=0.5), jnp.zeros(3)

    played = rollout.collect(env, env.task_set("train", 3), jax.random.key(0), outward, (), teach)
    exact = posterior.make(env)
    along = jax.vmap(lambda *history: posterior.along(exact, *history), in_axes=1, out_axes=1)(
        played.inputs.obs, played.action, played.reward
    )
    found = played.label.h.log_probs
    np.testing.assert_allclose(found, along.log_probs[:-1], atol=1e-4)
    moved = np.abs(np.exp(found[1:]) - np.exp(found[:-1])).sum(-1)
    assert moved.max() > 0.1  # a delay of one step would be detected


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in ("aux_head", "baseline", "belief", "exact_belief", "oracle")),
        ("belief", {"policy_hidden": 8}),
        ("exact_belief", {"policy_hidden": 0}),
    ],
    ids=[
        *("aux_head", "baseline", "belief", "exact_belief", "oracle"),
        *("belief with a policy core", "exact_belief without one"),
    ],
)
def test_memory_is_zeroed_by_a_new_task_and_by_nothing_else(name, settings):
    env, agent, learner, _ = small("semicircle", name, **settings)
    params = learner.init(jax.random.key(0)).params["agent"]
    obs = jax.random.uniform(jax.random.key(1), (1, 1, env.spec.obs_dim))
    seen = wiring.moment(env, obs[0, 0])
    zero = agent.initial_carry(1)
    # a non-zero carry, which an exact belief cannot have but would keep
    held = jax.tree.map(
        lambda leaf: leaf + 0.5 * jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape), zero
    )

    def after(carry, task_start, episode_start):
        flags = {"task_start": jnp.array(task_start), "episode_start": jnp.array(episode_start)}
        inputs = jax.tree.map(lambda leaf: leaf[None, None], seen._replace(**flags))
        return agent.unroll(params, carry, inputs, None)[1].actor[0, 0]

    for episode_start in (False, True):
        np.testing.assert_array_equal(
            after(held, True, episode_start), after(zero, True, episode_start)
        )
        difference = after(held, False, episode_start) - after(zero, False, episode_start)
        assert np.abs(difference).max() > 1e-3


def test_a_scripted_policy_observes_each_step_and_draws_for_itself():
    world = toys.World(episode_steps=3)
    policy = rollout.Scripted(
        lambda obs: jnp.zeros(()),
        # the count of observed steps, the task, the clock, and part of the key
        lambda carry, key, state, task: jnp.stack(
            [carry, task.number, state.steps * 1.0, *toys.marks(key)[:2]]
        ),
        lambda carry, obs, action, reward, next_obs: carry + next_obs[1] - obs[1],
    )
    tasks = world.task_set("holdout", 4)
    played = rollout.collect_scripted(world, tasks, jax.random.key(0), policy)
    steps = np.arange(3.0)[:, None] + np.zeros(4)
    np.testing.assert_array_equal(played.action[..., 0], steps)
    np.testing.assert_array_equal(played.action[..., 1], toys.HOLDOUT[:4] + 0 * steps)
    np.testing.assert_array_equal(played.action[..., 2], steps)
    assert len(np.unique(np.reshape(played.action[..., 3:], (-1, 2)), axis=0)) == 12


@pytest.mark.parametrize("spec", [Continuous(2), Discrete(3)], ids=["continuous", "discrete"])
def test_random_actions_are_uniform_over_the_whole_space(spec):
    policy = rollout.uniform_random(dataclasses.replace(toys.World().spec, action=spec))
    keys = jax.random.split(jax.random.key(0), 4000)
    actions = np.asarray(jax.vmap(lambda key: policy.act((), key, (), ()))(keys))
    if isinstance(spec, Discrete):
        shares = np.bincount(actions, minlength=3) / 4000
        assert shares.shape == (3,)
        np.testing.assert_allclose(shares, 1 / 3, atol=4 * np.sqrt(2 / 9 / 4000))
    else:
        assert actions.shape == (4000, 2)
        # of U(-1, 1): mean 0, variance 1/3, the ends within 1/100
        np.testing.assert_allclose(actions.mean(0), 0, atol=4 * np.sqrt(1 / 3 / 4000))
        np.testing.assert_allclose((actions**2).mean(0), 1 / 3, atol=0.02)
        np.testing.assert_allclose([actions.min(0), actions.max(0)], [[-1] * 2, [1] * 2], atol=0.01)
