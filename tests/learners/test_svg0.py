"""Tests of SVG(0) against independent computations in NumPy, through its public functions alone.

The outputs of the networks are read through these: probabilities of actions from `act`, Q from
the metric of a batch of a single step.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.learners import svg0
from taskbelief.networks import heads
from taskbelief.types import Continuous, Discrete
from tests import wiring

SPEC = wiring.spec_of(action=Discrete(2), obs_dim=2, steps=3)
CONFIG = svg0.Config(
    privileged=False,
    actor_hidden=8,
    critic_hidden=8,
    gamma=0.9,
    lambda_=0.8,
    entropy_cost=0.3,
    entropy_target=0.6,
    entropy_rate=0.1,
    actor_weight=0.7,
    learning_rate=0.01,
    learning_rate_end=0.2,
    max_gradient_norm=1e9,
    target_rate=0.1,
)
TOTAL = 10  # updates of the schedules
KEY = jax.random.key(3)

# four histories of three steps each
NUM = 4
RNG = np.random.default_rng(1)
OBS = RNG.normal(size=(4, NUM, 2))
ACTION = RNG.integers(2, size=(3, NUM))
REWARD = RNG.normal(size=(3, NUM))
POINT = np.array([0.4, -0.9])  # an observation
# the second has a termination inside the task, the third one at its end, the fourth both
TERMINATED: np.ndarray = np.zeros((3, NUM), bool)
TERMINATED[0, 1] = TERMINATED[2, 2] = TERMINATED[1, 3] = TERMINATED[2, 3] = True


class Made:
    """A learner with its update compiled, for a batch and for each of several histories alone."""

    def __init__(self, agent=None, config=CONFIG, spec=SPEC):
        self.spec = spec
        self.learner = svg0.make(wiring.posed(spec), agent or wiring.toy(), config, TOTAL)
        self.init = jax.jit(self.learner.init)
        self.update = jax.jit(self.learner.update)
        alone = jax.vmap(lambda state, batch: self.learner.update(state, batch, KEY)[1], (None, 0))
        self.metrics_of_each = jax.jit(alone)

    def start(self, seed=0, **fields):
        """A state with larger parameters, because the initial networks are nearly constant."""
        state = self.init(jax.random.key(seed))
        params = jax.tree.map(lambda leaf: 2.0 * leaf, state.params)
        target = jax.tree.map(lambda leaf: 2.0 * leaf, state.target)
        return state._replace(params=params, target=target)._replace(**fields)

    def each(self, state, obs, action, log_prob, reward, terminated, dense=None):
        """Metrics of each history alone, [N]."""
        dense = reward if dense is None else dense
        batches = [
            wiring.batch_of(
                obs[:, [n]],
                action[:, [n]],
                log_prob[:, [n]],
                reward[:, [n]],
                terminated[:, [n]],
                dense=dense[:, [n]],
            )
            for n in range(obs.shape[1])
        ]
        return self.metrics_of_each(state, jax.tree.map(lambda *rows: jnp.stack(rows), *batches))

    def q(self, state, obs):
        """Q of both actions at obs [N, D]: [N, 2]."""
        num = len(obs)
        none = np.zeros((1, num))
        columns = [
            self.each(
                state, np.stack([obs, obs]), np.full((1, num), a), none, none, none.astype(bool)
            )["q"]
            for a in (0, 1)
        ]
        return np.stack(columns, axis=-1)


@pytest.fixture(scope="module")
def made():
    return Made()


def single_step(num=2, log_prob=np.log(0.5), **more):
    obs = np.tile(POINT, (2, num, 1))
    zero = np.zeros((1, num))
    return wiring.batch_of(obs, zero.astype(int), zero + log_prob, zero, **more)


# ---- critic -----------------------------------------------------------------------


def test_the_critics_targets_are_retraces(made):
    """Off-policy histories have ratios below and above 1, the target network differs from the
    online one, and the reward is the label's."""
    target = made.init(jax.random.key(5)).target
    target = jax.tree.map(lambda leaf: 2.0 * leaf, target)
    state = made.start(target=target)
    with_target = state._replace(params={**state.params, "heads": target})
    flat = OBS.reshape(-1, 2)
    probs = wiring.policy(made.learner, state.params, SPEC, flat).reshape(4, NUM, 2)
    online = made.q(state, flat).reshape(4, NUM, 2)
    lagged = made.q(with_target, flat).reshape(4, NUM, 2)
    assert np.abs(online - lagged).mean() > 0.1 and np.std(probs) > 0.01

    of_action = lambda table: np.take_along_axis(table[:-1], ACTION[..., None], -1)[..., 0]  # noqa: E731
    ratio = np.array([[9.0, 3.0, 0.2, 0.2], [0.4, 1.6, 0.5, 3.0], [2.0, 0.3, 0.7, 0.1]])
    log_prob = np.log(of_action(probs) / ratio)
    q, expected = of_action(lagged), np.sum(probs * lagged, axis=-1)
    goal = np.zeros((3, NUM))
    for t in (2, 1, 0):
        bootstrap = expected[t + 1]
        if t < 2:
            bootstrap = bootstrap + 0.8 * np.minimum(1, ratio[t + 1]) * (goal[t + 1] - q[t + 1])
        # a termination stops the bootstrap only at the last step
        discount = 0.9 * (1 - TERMINATED[t] * (t == 2))
        goal[t] = REWARD[t] + discount * bootstrap

    sparse = np.full((3, NUM), 50.0)
    metrics = made.each(state, OBS, ACTION, log_prob, sparse, TERMINATED, dense=REWARD)
    np.testing.assert_allclose(metrics["q_target"], goal.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(metrics["q"], of_action(online).mean(axis=0), rtol=1e-3, atol=1e-5)
    loss = 0.5 * np.mean(np.square(goal - of_action(online)), axis=0)
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-3)
    np.testing.assert_allclose(metrics["trace"], np.minimum(1, ratio).mean(axis=0), rtol=1e-3)


def test_target_features_are_the_agents_own_now():
    """Q of the next observation is the target network's, of the agent's features; no gradient
    passes to the agent by that way, here the only one from an observation that is not zero."""
    made = Made(
        wiring.toy(
            critic=lambda weight, obs: weight * jnp.concatenate([obs, obs[..., :1]], axis=-1)
        )
    )
    state = made.start(target=made.start(5).target)
    probs = wiring.policy(made.learner, state.params, SPEC, OBS[1])
    with_target = state._replace(params={**state.params, "heads": state.target})
    lagged = made.q(with_target, OBS[1])
    none = np.zeros((1, NUM))
    obs = np.stack([np.zeros_like(OBS[1]), OBS[1]])
    metrics = made.each(state, obs, ACTION[:1], none, none, none.astype(bool))
    expected = 0.9 * np.sum(probs * lagged, axis=-1)
    np.testing.assert_allclose(metrics["q_target"], expected, rtol=1e-3, atol=1e-5)
    batch = wiring.batch_of(obs, ACTION[:1], none, none, none.astype(bool))
    after, _ = made.update(state, batch, KEY)
    assert after.params["agent"]["weight"] == state.params["agent"]["weight"]


def test_the_critic_moves_towards_its_target(made):
    """The target of a step that terminates is its reward: 1 for one action, -1 for the other."""
    obs = np.tile(POINT, (2, 2, 1))
    action, over = np.array([[0, 1]]), np.ones((1, 2), bool)
    reward = np.array([[1.0, -1.0]])
    batch = wiring.batch_of(obs, action, np.log([[0.5, 0.5]]), reward, over, dense=reward)
    state = made.start()
    for _ in range(60):
        state, metrics = made.update(state, batch, KEY)
    np.testing.assert_allclose(made.q(state, obs[0, :1])[0], [1.0, -1.0], atol=0.1)
    np.testing.assert_allclose(metrics["q_target"], 0.0, atol=1e-6)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_the_value_beyond_the_task_counts_if_asked_for(bootstrap):
    """The target of one step without reward is 0, or the discounted value of the next observation,
    which is the same one."""
    made = Made(config=dataclasses.replace(CONFIG, bootstrap_at_task_end=bootstrap))
    state = made.start()
    state = state._replace(target=jax.tree.map(jnp.copy, state.params["heads"]))
    batch = single_step()
    obs = np.asarray(batch.inputs.obs[0])
    probs = wiring.policy(made.learner, state.params, SPEC, obs)
    value = np.mean(np.sum(probs * made.q(state, obs), axis=-1))
    assert abs(value) > 0.01
    _, metrics = made.update(state, batch, KEY)
    np.testing.assert_allclose(metrics["q_target"], 0.9 * value * bootstrap, rtol=1e-3)


# ---- actor ------------------------------------------------------------------------


def test_the_actors_loss_is_value_and_entropy_under_the_policy():
    agent = wiring.toy(
        penalty=lambda weight, obs: weight * obs[..., 0] ** 2,
        aux=lambda weight, label: 3.0 * weight,
    )
    made = Made(agent)
    state = made.start()
    flat = OBS[:-1].reshape(-1, 2)
    probs = wiring.policy(made.learner, state.params, SPEC, flat).reshape(3, NUM, 2)
    q = made.q(state, flat).reshape(3, NUM, 2)
    entropy = -np.sum(probs * np.log(probs), axis=-1).mean(axis=0)
    loss = -(np.sum(probs * q, axis=-1).mean(axis=0) + 0.3 * entropy)
    log_prob = np.full((3, NUM), np.log(0.5))
    metrics = made.each(state, OBS, ACTION, log_prob, REWARD, TERMINATED)
    np.testing.assert_allclose(metrics["entropy"], entropy, rtol=1e-4)
    np.testing.assert_allclose(metrics["actor_loss"], loss, rtol=1e-3)
    penalty = 2.0 * np.square(OBS[:-1, :, 0]).mean(axis=0)  # the weight is 2
    total = metrics["critic_loss"] + 0.7 * loss + 3.0 * 2.0 + penalty
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-3)


def test_the_actor_learns_the_action_of_the_larger_q(made):
    state = made.start()._replace(log_entropy_cost=jnp.asarray(-20.0))
    batch = single_step(dense=np.zeros((1, 2)))
    obs = np.asarray(batch.inputs.obs[0, :1])
    q = made.q(state, obs)[0]
    assert abs(q[0] - q[1]) > 0.01
    before = wiring.policy(made.learner, state.params, SPEC, obs)[0]
    state, _ = made.update(state, batch, KEY)
    after = wiring.policy(made.learner, state.params, SPEC, obs)[0]
    assert np.argmax(after - before) == np.argmax(q)
    assert after[np.argmax(q)] - before[np.argmax(q)] > 1e-3


def test_what_the_actor_gains_trains_neither_critic_nor_its_features():
    """The critic and its features move alike under a large positive and a large negative weight of
    the actor's loss."""
    agent = wiring.toy(
        critic=lambda weight, obs: weight * jnp.concatenate([obs, obs[..., :1]], axis=-1)
    )
    zero = np.zeros((3, NUM))
    batch = wiring.batch_of(OBS, ACTION, np.log(zero + 0.5), REWARD, TERMINATED, dense=REWARD)
    found = []
    for weight in (1e4, -1e4):
        made = Made(agent, dataclasses.replace(CONFIG, actor_weight=weight))
        state, _ = made.update(made.start(), batch, KEY)
        policy = wiring.policy(made.learner, state.params, SPEC, OBS[0])
        found.append((state.params["agent"]["weight"], made.q(state, OBS[0]), policy))
    (weight, q, policy), (weight_2, q_2, policy_2) = found
    assert weight != 2.0
    np.testing.assert_array_equal(weight, weight_2)
    np.testing.assert_allclose(q, q_2, rtol=1e-6)
    assert np.abs(policy - policy_2).max() > 1e-4


# ---- what else an update does -----------------------------------------------------


def test_the_target_network_follows_by_a_tenth(made):
    state = made.start(target=made.init(jax.random.key(5)).target)
    after, _ = made.update(state, single_step(dense=np.ones((1, 2))), KEY)
    heads = after.params["heads"]
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, state.target, heads)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.target, expected
    )
    moved = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), after.params, state.params)
    assert max(jax.tree.leaves(moved)) > 0.005


def test_the_target_network_starts_as_a_copy_of_its_own(made):
    state = made.init(jax.random.key(0))
    heads = state.params["heads"]
    jax.tree.map(np.testing.assert_array_equal, heads, state.target)
    pairs = zip(jax.tree.leaves(heads), jax.tree.leaves(state.target), strict=True)
    assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in pairs)


@pytest.mark.parametrize("wanted", [0.9, 0.6, -1.0])
def test_entropy_cost_rises_while_entropy_is_lower_than_wanted(wanted):
    made = Made(config=dataclasses.replace(CONFIG, entropy_target=wanted))
    state = made.start()
    cost = np.exp(state.log_entropy_cost)
    np.testing.assert_allclose(cost, 0.3, rtol=1e-6)
    batch = single_step(dense=np.zeros((1, 2)))
    probs = wiring.policy(made.learner, state.params, SPEC, np.asarray(batch.inputs.obs[0, :1]))
    entropy = -np.sum(probs * np.log(probs))  # nearly log 2
    after, metrics = made.update(state, batch, KEY)
    np.testing.assert_allclose(metrics["entropy_cost"], cost, rtol=1e-6)
    np.testing.assert_allclose(
        after.log_entropy_cost, np.log(0.3) + 0.1 * (wanted - entropy), rtol=1e-4
    )
    assert (after.log_entropy_cost > state.log_entropy_cost) == (wanted == 0.9)


@pytest.mark.parametrize(("updates", "wanted"), [(0, 1.6), (2, 1.2), (5, 0.6), (8, 0.6)])
def test_the_entropy_target_changes_linearly(updates, wanted):
    """From 1.6 to 0.6 in half of ten updates."""
    made = Made(config=dataclasses.replace(CONFIG, entropy_start=1.6, entropy_share=0.5))
    state = made.start(updates=jnp.asarray(updates))
    after, metrics = made.update(state, single_step(dense=np.zeros((1, 2))), KEY)
    risen = 0.1 * (wanted - metrics["entropy"])
    np.testing.assert_allclose(after.log_entropy_cost, np.log(0.3) + risen, rtol=1e-4)
    assert after.updates == updates + 1


@pytest.mark.parametrize(
    ("action", "usual"), [(Continuous(3), -3.0), (Discrete(20), 0.7 * np.log(20))]
)
def test_the_usual_entropy(action, usual):
    np.testing.assert_allclose(heads.action_head(action).usual_entropy, usual)


def test_the_agents_own_losses_have_their_weights_and_the_rate_its_schedule():
    """The gradient of the toy's weight is the mean penalty plus the mean label; Adam's first step
    is the rate times the gradient's sign, and so is each step at a constant gradient."""
    agent = wiring.toy(
        penalty=lambda weight, obs: weight * obs[..., 0],
        aux=lambda weight, label: weight * jnp.mean(label.h),
    )
    made = Made(agent)

    def batch(penalty, h):
        obs = np.zeros((4, 2, 2))
        obs[:-1, :, 0] = penalty
        obs[-1] = 100.0  # the observation after the last step has no penalty
        zero = np.zeros((3, 2))
        return wiring.batch_of(obs, zero.astype(int), zero, zero, h=h, dense=zero)

    start = made.init(jax.random.key(0))
    for penalty, h, step in [(-0.9, 1.0, -0.01), (-1.1, 1.0, 0.01), (1.0, -0.9, -0.01)]:
        state, _ = made.update(start, batch(penalty, h), KEY)
        np.testing.assert_allclose(state.params["agent"]["weight"] - 1.0, step, rtol=1e-3)

    state, weights = start, [1.0]
    for _ in range(12):
        state, _ = made.update(state, batch(1.0, 1.0), KEY)
        weights.append(float(state.params["agent"]["weight"]))
    rates = 0.01 * (1 - 0.8 * np.minimum(np.arange(12), TOTAL) / TOTAL)  # down to a fifth
    np.testing.assert_allclose(-np.diff(weights), rates, rtol=2e-3)


def test_long_gradients_are_cut():
    """Gradients of a million and then a thousand are clipped to the same norm, and Adam's second
    step is as long as its first. Unclipped it would be two thirds of it."""
    agent = wiring.toy(aux=lambda weight, label: weight * jnp.mean(label.h))
    config = dataclasses.replace(CONFIG, max_gradient_norm=1.0, learning_rate_end=1.0)
    made = Made(agent, config)
    state = made.init(jax.random.key(0))
    for slope, weight in ((1e6, 0.99), (1e3, 0.98)):
        batch = single_step(h=slope, dense=np.zeros((1, 2)))
        state, _ = made.update(state, batch, KEY)
        np.testing.assert_allclose(state.params["agent"]["weight"], weight, rtol=1e-4)


@pytest.mark.parametrize("discrete", [True, False])
def test_act_samples_its_policy_or_takes_its_mode(discrete):
    spec = wiring.spec_of(action=Discrete(3) if discrete else Continuous(2), obs_dim=2)
    agent = wiring.toy()
    learner = svg0.make(
        wiring.posed(spec),
        agent,
        svg0.Config(privileged=False, actor_hidden=4, critic_hidden=4),
        TOTAL,
    )
    params = learner.init(jax.random.key(0)).params
    inputs = wiring.first_inputs(spec, np.tile(POINT, (400, 1)))
    carry = agent.initial_carry(400)
    _, mode, at_mode = learner.act(params, carry, inputs, None)
    _, action, log_prob = learner.act(params, carry, inputs, jax.random.key(1))
    if discrete:
        probs = wiring.policy(learner, params, spec, np.asarray(inputs.obs[0, :1]))[0]
        np.testing.assert_array_equal(mode, np.argmax(probs))
        np.testing.assert_allclose(np.exp(at_mode), probs.max(), rtol=1e-5)
        counts = np.bincount(np.asarray(action), minlength=3)
        np.testing.assert_allclose(counts / 400, probs, atol=0.08)
        np.testing.assert_allclose(np.exp(log_prob), probs[np.asarray(action)], rtol=1e-5)
    else:  # the median of a squashed normal is the squashed mean
        np.testing.assert_allclose(np.median(action, axis=0), mode[0], atol=0.1)
        assert len(np.unique(np.asarray(action)[:, 0])) > 390
