"""Tests of PPO against numbers by hand and an independent implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.learners import ppo
from taskbelief.types import Continuous, Discrete, Trajectory
from tests import wiring

# ---- the losses, on single numbers ------------------------------------------------


# min(r A, clamp(r, 0.8, 1.2) A), negated; with its slope by r
@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),  # inside
        (0.9, -2.0, 1.8, 2.0),
        (1.5, 2.0, -2.4, 0.0),  # past the clip in the advantage's direction: no gradient
        (0.5, -2.0, 1.6, 0.0),
        (0.5, 2.0, -1.0, -2.0),  # past it the wrong way: not clipped, so that it returns
        (1.5, -2.0, 3.0, 2.0),
    ],
)
def test_policy_loss_inside_and_outside_the_clip(ratio, advantage, loss, slope):
    value, gradient = jax.value_and_grad(
        lambda r: ppo.policy_loss(r[None, None], jnp.full((1, 1), advantage), 0.2)
    )(jnp.asarray(ratio))
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=1e-6)


def test_policy_loss_is_a_mean_and_learns_nothing_through_the_advantage():
    ratio, advantage = jnp.array([[1.0, 1.5], [0.5, 1.0]]), jnp.array([[1.0, 2.0], [-2.0, 4.0]])
    # -(1 + 2.4 - 1.6 + 4) / 4
    np.testing.assert_allclose(ppo.policy_loss(ratio, advantage, 0.2), -1.45, rtol=1e-6)
    assert not jnp.any(jax.grad(lambda a: ppo.policy_loss(ratio, a, 0.2))(advantage))


def test_the_probability_ratio_is_limited_to_the_exponential_of_20():
    log_ratio = jnp.array([-1.0, 0.0, 2.0, 19.0, 21.0, 300.0])
    expected = np.exp([-1.0, 0.0, 2.0, 19.0, 20.0, 20.0])
    np.testing.assert_allclose(ppo.probability_ratio(log_ratio), expected, rtol=1e-5)
    slope = jax.vmap(jax.grad(ppo.probability_ratio))(log_ratio)
    np.testing.assert_allclose(slope, [*expected[:4], 0.0, 0.0], rtol=1e-5)


# Targets 1 and 5: mean 3, standard deviation 2; the clip of 0.25 allows changes of up to 0.5.
# The values before were 2 and 2. Errors by hand: the larger of the unclipped and the clipped one.
@pytest.mark.parametrize(
    ("value", "errors", "slopes"),
    [
        # 2.2 is within 0.5: (1 - 2.2)^2; 4 is not: (5 - 2.5)^2 > (5 - 4)^2
        ((2.2, 4.0), (1.44, 6.25), (2.4, 0.0)),
        # 0 is not, but the clipped error is smaller: (1 - 1.5)^2 < (1 - 0)^2, no clip
        ((0.0, 2.4), (1.0, 6.76), (-2.0, -5.2)),
        # 1.2 is not: (1 - 1.5)^2 > (1 - 1.2)^2, clipped; nor is 1: (5 - 1)^2 > (5 - 1.5)^2, no clip
        ((1.2, 1.0), (0.25, 16.0), (0.0, -8.0)),
    ],
)
def test_value_loss_inside_and_outside_the_clip(value, errors, slopes):
    before, target = jnp.array([[2.0, 2.0]]), jnp.array([[1.0, 5.0]])
    loss, gradient = jax.value_and_grad(lambda v: ppo.value_loss(v, before, target, 0.25))(
        jnp.array([value])
    )
    # half the mean of both, divided by the variance of the targets, 4
    np.testing.assert_allclose(loss, sum(errors) / 16, rtol=1e-5)
    np.testing.assert_allclose(gradient[0], np.array(slopes) / 16, rtol=1e-5, atol=1e-7)


def test_value_loss_without_a_clip():
    before, target = jnp.array([[2.0, 2.0]]), jnp.array([[1.0, 5.0]])
    loss = ppo.value_loss(jnp.array([[0.0, 4.0]]), before, target, 0.0)
    np.testing.assert_allclose(loss, (1 + 1) / 16, rtol=1e-5)


def test_normalise():
    advantage = jnp.array([[1.0, 3.0], [5.0, 7.0]])  # mean 4, variance (9 + 1 + 1 + 9) / 4 = 5
    expected = np.array([[-3, -1], [1, 3]]) / np.sqrt(5)
    np.testing.assert_allclose(ppo.normalise(advantage), expected, rtol=1e-5)
    np.testing.assert_array_equal(ppo.normalise(jnp.full((2, 2), 3.0)), np.zeros((2, 2)))


def test_neither_loss_depends_on_the_scale_of_rewards():
    rng = np.random.default_rng(0)
    ratio, value, before, target = (jnp.asarray(rng.normal(size=(5, 4)) + 1) for _ in range(4))

    def losses(scale):
        advantage = ppo.normalise(scale * (target - before))
        return (
            ppo.policy_loss(ratio, advantage, 0.2),
            ppo.value_loss(scale * value, scale * before, scale * target, 0.2),
        )

    np.testing.assert_allclose(losses(1000.0), losses(1.0), rtol=1e-4)


def test_generalised_advantages_across_an_episode_end():
    """Two streams of three steps, discount 0.5, lambda 0.8; rewards 1, 2, 4; values before each
    step 2, 3, 1, and 5 after the last. In both an episode ends at step 1, which does not cut the
    return; the second also terminates at the time limit, and its 5 does not count.

      first:  deltas 1 + 0.5 * 3 - 2 = 0.5;  2 + 0.5 * 1 - 3 = -0.5;  4 + 0.5 * 5 - 1 = 5.5
              A_2 = 5.5;  A_1 = -0.5 + 0.4 * 5.5 = 1.7;  A_0 = 0.5 + 0.4 * 1.7 = 1.18
      second: delta 4 - 1 = 3;  A_2 = 3;  A_1 = -0.5 + 0.4 * 3 = 0.7;  A_0 = 0.5 + 0.28 = 0.78
    """
    both = lambda column: jnp.tile(jnp.asarray(column)[:, None], (1, 2))  # noqa: E731
    terminated = jnp.array([[False, False], [True, True], [False, True]])
    task_end = jnp.array([[False] * 2, [False] * 2, [True] * 2])
    played = Trajectory(*[None] * 4, terminated, None, task_end, None)
    discount = played.discounts(0.5, bootstrap=True)
    value = both([2.0, 3.0, 1.0, 5.0])
    found = ppo.lambda_returns(value, both([1.0, 2.0, 4.0]), discount, lambda_=0.8)
    expected = np.array([[1.18, 0.78], [1.7, 0.7], [5.5, 3.0]])
    np.testing.assert_allclose(found - value[:-1], expected, rtol=1e-6)


# ---- an update --------------------------------------------------------------------

SPEC = wiring.spec_of(action=Discrete(2), obs_dim=2, steps=3)
# three steps of two meta-episodes; the first has a termination inside, the second at its end
ACTION = np.array([[0, 1], [1, 1], [0, 0]])
REWARD = np.array([[1.0, 0.0], [-2.0, 0.5], [0.5, 3.0]])
TERMINATED = np.array([[False, False], [True, False], [False, True]])
OBS = np.random.default_rng(1).normal(size=(4, 2, 2))


def returns_by_hand(value, reward, gamma, lambda_):
    """G_t = r_t + d_t ((1 - lambda) V_{t+1} + lambda G_{t+1}), backwards; value [T + 1, B]."""
    after, target = value[-1], np.zeros_like(reward)
    for t in reversed(range(len(reward))):
        last = t == len(reward) - 1
        discount = gamma * (1.0 - (TERMINATED[t] if last else 0.0))
        after = reward[t] + discount * ((1 - lambda_) * value[t + 1] + lambda_ * after)
        target[t] = after
    return target


def test_the_losses_of_an_update_are_those_of_its_batch():
    """Compares the metrics of one pass with NumPy, given the probabilities and values that the
    public functions return."""
    config = ppo.Config(
        privileged=False,
        actor_hidden=8,
        critic_hidden=8,
        gamma=0.9,
        lambda_=0.8,
        epochs=1,
        minibatches=1,
        value_weight=0.3,
        entropy_cost=0.7,
    )
    learner = ppo.make(
        wiring.posed(SPEC), wiring.toy(aux=lambda weight, label: 5.0 * weight), config
    )
    state = learner.init(jax.random.key(0))
    # larger heads, so that features matter
    state = state._replace(params=jax.tree.map(lambda leaf: 3.0 * leaf, state.params))
    update = jax.jit(learner.update)

    def value_of(obs):
        one = np.zeros((1, 1))
        obs = np.stack([obs, obs])[:, None]
        single = wiring.batch_of(obs, one.astype(int), one, one, dense=one)
        return update(state, single, jax.random.key(1))[1]["value"]

    value = np.array([[value_of(obs) for obs in row] for row in OBS])
    assert np.std(value) > 0.01
    flat = OBS[:-1].reshape(-1, 2)
    probs = wiring.policy(learner, state.params, SPEC, flat).reshape(3, 2, 2)
    assert np.std(probs) > 0.01
    chosen = np.take_along_axis(probs, ACTION[..., None], axis=-1)[..., 0]
    ratio = np.array([[0.5, 1.1], [1.5, 0.7], [2.0, 0.95]])

    def expected(reward):
        target = returns_by_hand(value, reward, 0.9, 0.8)
        advantage = target - value[:-1]
        advantage = (advantage - advantage.mean()) / advantage.std()
        actor = -np.mean(np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage))
        critic = 0.5 * np.mean(np.square(target - value[:-1])) / target.var()
        entropy = -np.mean(np.sum(probs * np.log(probs), axis=-1))
        return {
            "actor_loss": actor,
            "critic_loss": critic,
            "entropy": entropy,
            "loss": actor + 0.3 * critic - 0.7 * entropy + 3.0 * 5.0,  # the weight is 3
            "kl": np.mean(ratio - 1 - np.log(ratio)),
            "clipped": 4 / 6,
            "value": value[:-1].mean(),
        }

    # a dense reward replaces the sparse one
    dense = REWARD[::-1] + 1.0
    log_prob = np.log(chosen / ratio)
    batch = wiring.batch_of(OBS, ACTION, log_prob, REWARD, TERMINATED, dense=dense)
    _, metrics = update(state, batch, jax.random.key(2))
    for name, number in expected(dense).items():
        np.testing.assert_allclose(metrics[name], number, rtol=2e-4, err_msg=name)


def test_two_updates_by_hand():
    """With all parameters zero, hidden units stay zero and only the last biases learn. The policy
    is then softmax(b) and the value v everywhere, and NumPy can reproduce an update: advantages,
    clips, entropy, norm of the gradient, Adam and its learning rate."""
    config = ppo.Config(
        privileged=False,
        actor_hidden=8,
        critic_hidden=8,
        gamma=0.9,
        lambda_=0.8,
        epochs=3,
        minibatches=1,
        value_weight=0.6,
        entropy_cost=0.05,
        learning_rate=0.2,
        learning_rate_end=0.1,
    )
    learner = ppo.make(wiring.posed(SPEC), wiring.toy(), config, total_updates=4)
    state = learner.init(jax.random.key(0))
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    log_prob = np.log(0.5 / np.array([[0.5, 1.1], [1.5, 0.7], [1.0, 0.95]]))
    batch = wiring.batch_of(OBS, ACTION, log_prob, REWARD, TERMINATED)
    update = jax.jit(learner.update)

    b, v, m, s, count = np.zeros(2), 0.0, np.zeros(3), np.zeros(3), 0
    held = 0  # how often a clip stops a gradient
    for number in range(2):
        state, _ = update(state, batch, jax.random.key(number))
        before = v
        target = returns_by_hand(np.full((4, 2), v), REWARD, 0.9, 0.8)
        advantage = target - v
        advantage = (advantage - advantage.mean()) / advantage.std()
        for _ in range(3):
            probs = np.exp(b) / np.exp(b).sum()
            ratio = probs[ACTION] / np.exp(log_prob)
            free = np.where(advantage > 0, ratio < 1.2, ratio > 0.8)
            score = np.eye(2)[ACTION] - probs  # gradient of log pi by b
            by_b = -np.mean((free * ratio * advantage)[..., None] * score, axis=(0, 1))
            entropy = -np.sum(probs * np.log(probs))
            by_b += 0.05 * probs * (np.log(probs) + entropy)  # minus the cost times dH / db
            reach = 0.2 * target.std()
            near = before + np.clip(v - before, -reach, reach)
            open_ = (abs(v - before) <= reach) | ((target - v) ** 2 > (target - near) ** 2)
            by_v = 0.6 * np.mean(open_ * (v - target)) / target.var()
            held += np.sum(~free) + np.sum(~open_)
            gradient = np.array([*by_b, by_v])
            gradient *= min(1.0, 0.5 / np.linalg.norm(gradient))
            count += 1
            m = 0.9 * m + 0.1 * gradient
            s = 0.999 * s + 0.001 * gradient**2
            rate = 0.2 * (1 - 0.9 * (count - 1) / 12)
            step = -rate * m / (1 - 0.9**count) / (np.sqrt(s / (1 - 0.999**count)) + 1e-5)
            b, v = b + step[:2], v + step[2]
        found = {leaf.shape: leaf for leaf in jax.tree.leaves(state.params["heads"]) if leaf.any()}
        assert set(found) == {(2,), (1,)}
        np.testing.assert_allclose(found[2,], b, rtol=1e-3)
        np.testing.assert_allclose(found[1,], v, rtol=1e-3)
    assert held > 10


def test_an_update_survives_actions_that_were_all_but_impossible():
    """The ratio of an action of log probability -300 overflows: above the limit, how improbable
    it was makes no difference."""
    config = ppo.Config(privileged=False, actor_hidden=4, critic_hidden=4, minibatches=1)
    learner = ppo.make(wiring.posed(SPEC), wiring.toy(), config)
    state, update = learner.init(jax.random.key(0)), jax.jit(learner.update)

    def moved(log_prob):
        log_probs = np.full(ACTION.shape, log_prob)
        batch = wiring.batch_of(OBS, ACTION, log_probs, REWARD, TERMINATED)
        after, _ = update(state, batch, jax.random.key(1))
        change = jax.tree.map(lambda a, b: a - b, after.params["heads"], state.params["heads"])
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(change)])

    assert 1e-3 < np.abs(moved(-300.0)).max() < 1e-2  # four steps of Adam of about 1e-3 each
    np.testing.assert_array_equal(moved(-400.0), moved(-300.0))


def test_each_meta_episode_learns_once_an_epoch():
    """Meta-episode n of six counts 10^n: the digits of the sum show how often each was used."""
    config = ppo.Config(privileged=False, actor_hidden=4, critic_hidden=4, epochs=2, minibatches=3)
    agent = wiring.toy(metrics=lambda label: {"seen": jnp.sum(label.h[0])})
    learner = ppo.make(wiring.posed(SPEC), agent, config)
    obs, one = np.zeros((2, 6, 2)), np.ones((1, 6))
    batch = wiring.batch_of(obs, one.astype(int), one, one, h=10.0 ** np.arange(6))
    state = learner.init(jax.random.key(0))
    _, metrics = jax.jit(learner.update)(state, batch, jax.random.key(1))
    assert learner.steps == 6
    np.testing.assert_allclose(metrics["seen"] * 6, 222222)
    with pytest.raises(ValueError, match="minibatches 3"):
        learner.update(state, wiring.batch_of(obs[:, :4], *[one[:, :4]] * 3), jax.random.key(1))


def test_act_samples_its_policy_or_takes_its_mode():
    spec = wiring.spec_of(action=Continuous(2), obs_dim=2)
    agent = wiring.toy()
    learner = ppo.make(
        wiring.posed(spec), agent, ppo.Config(privileged=False, actor_hidden=4, critic_hidden=4)
    )
    params = learner.init(jax.random.key(0)).params
    # zero parameters: tanh of a normal of mean 0 and deviation 0.05 + 0.95 / 2
    params = jax.tree.map(jnp.zeros_like, params)
    inputs = wiring.first_inputs(spec, np.zeros((400, 2)))
    carry = agent.initial_carry(400)
    _, mode, _ = learner.act(params, carry, inputs, None)
    np.testing.assert_array_equal(mode, np.zeros((400, 2)))
    _, action, log_prob = learner.act(params, carry, inputs, jax.random.key(1))
    normal = np.arctanh(np.asarray(action))
    np.testing.assert_allclose(normal.std(axis=0), 0.525, rtol=0.1)
    np.testing.assert_allclose(normal.mean(axis=0), 0.0, atol=0.08)
    density = np.exp(-0.5 * (normal / 0.525) ** 2) / (0.525 * np.sqrt(2 * np.pi))
    expected = np.sum(np.log(density / (1 - np.asarray(action) ** 2)), axis=-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3, atol=1e-3)
