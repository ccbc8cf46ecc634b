"""Tests of SAC against independent computations in NumPy, through its public functions.

The outputs of the networks are read from the metrics of batches of a single transition.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.learners import _by_task, sac
from taskbelief.learners._by_task import Sample
from taskbelief.types import Discrete, Features, Transition
from tests import wiring
from tests.learners.test_by_task import filled

SPEC = wiring.spec_of(action=Discrete(2), obs_dim=2, steps=2, episodes=2)
CONFIG = sac.Config(
    transitions=3,
    actor_hidden=8,
    critic_hidden=8,
    gamma=0.9,
    entropy_cost=0.3,
    learning_rate=0.01,
    learning_rate_end=0.2,
    max_gradient_norm=1e9,
    target_rate=0.1,
)
KEY = jax.random.key(3)
RNG = np.random.default_rng(1)


def infer(params, context, obs, key):
    """Features are the observations plus a latent for each task: the sum of its context's rewards
    times a weight, plus noise."""
    told = params["weight"] * jnp.sum(context.reward, axis=0)
    z = told[:, None] + 0.5 * jax.random.normal(key, (obs.shape[1], 2))
    features = obs + z
    wide = jnp.concatenate([features, features[..., :1]], axis=-1)
    penalty = jnp.broadcast_to(0.25 * jnp.square(told), obs.shape[:2])
    return Features(jax.lax.stop_gradient(features), wide, features, penalty)


class Made:
    """A learner with its update compiled, for one sample and for several separate ones."""

    def __init__(self, config=CONFIG):
        agent = wiring.toy(infer_offline=infer)
        self.learner = sac.make(wiring.posed(SPEC), agent, config, 10)
        self.update = jax.jit(self.learner.update)
        each = jax.vmap(lambda state, sample: self.learner.update(state, sample, KEY)[1], (None, 0))
        self.each = jax.jit(each)

    def start(self):
        """A state with larger parameters, because the initial networks are nearly constant."""
        state = self.learner.init(jax.random.key(0))
        return state._replace(
            params=jax.tree.map(lambda leaf: 3.0 * leaf, state.params),
            target=jax.tree.map(lambda leaf: 2.0 * leaf, state.target),
        )


@pytest.fixture(scope="module")
def made():
    return Made()


@pytest.fixture(autouse=True)
def same_numbers_in_any_order_of_tests():
    RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state


def steps(num=3, tasks=2, **parts):
    """Transitions [num, tasks] of random numbers, except for `parts`."""
    shape = (num, tasks)
    drawn = Transition(
        RNG.normal(size=(*shape, 2)),
        RNG.integers(2, size=shape),
        RNG.normal(size=shape),
        RNG.normal(size=shape),
        RNG.normal(size=(*shape, 2)),
        np.zeros(shape, bool),
    )._replace(**parts)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, {"f": jnp.float32, "i": jnp.int32}.get(leaf.dtype.kind)),
        drawn,
    )


def silent(num=4, tasks=2):
    """A context with rewards of zero, whose latent is noise alone."""
    return steps(num, tasks, reward=np.zeros((num, tasks)))


def value_of_target(made, state, obs):
    """The target network's value of `obs` [D] with the noise of KEY: the target of a transition
    without reward or termination is the discounted value."""
    end = steps(1, 1, next_obs=obs[None, None], learning_reward=np.zeros((1, 1)))
    return float(made.update(state, Sample(end, silent(1, 1)), KEY)[1]["q_target"]) / 0.9


def test_the_target_is_valued_where_the_action_led_before_the_reset(made):
    """By hand, for an episode of two steps and the first step of the next: the target is the reward
    for reaching x plus 0.9 times the value of x, although the episode ends there and the next
    begins at 0. After a termination it is the reward alone."""
    state = made.start()
    led_to = np.array([[0.3, -0.2], [0.7, 0.4], [0.1, 0.1]])
    obs = np.array([[0.0, 0.0], [0.3, -0.2], [0.0, 0.0]])
    played = wiring.batch_of(
        np.concatenate([obs, led_to[-1:]])[:, None],
        np.zeros((3, 1), int),
        np.zeros((3, 1)),
        np.zeros((3, 1)),
        dense=np.array([[-0.5], [-0.25], [-1.0]]),
    )
    reached = np.concatenate([obs[:1], led_to])[:, None]
    played = played._replace(inputs=played.inputs._replace(reached=jnp.asarray(reached)))
    values = [value_of_target(made, state, x) for x in led_to]
    assert np.ptp(values) > 0.05
    found = _by_task.transitions_of(played)
    for t, paid in enumerate([-0.5, -0.25, -1.0]):
        alone = jax.tree.map(lambda leaf, t=t: leaf[t : t + 1], found)
        sample = Sample(alone, silent(1, 1))
        target = made.update(state, sample, KEY)[1]["q_target"]
        np.testing.assert_allclose(target, paid + 0.9 * values[t], rtol=1e-4)
        ended = Sample(alone._replace(terminated=jnp.ones((1, 1), bool)), silent(1, 1))
        target = made.update(state, ended, KEY)[1]["q_target"]
        np.testing.assert_allclose(target, paid, rtol=1e-5)


def test_one_hypothesis_for_an_observation_and_the_next(made):
    """With different noise for the next one, the value of the same observation would differ."""
    state = made.start()
    same = steps(1, 1, learning_reward=np.zeros((1, 1)))
    same = same._replace(next_obs=same.obs)
    # equal online and target networks, so that `q_target` gives the online value
    state = state._replace(target=jax.tree.map(jnp.copy, state.params["heads"]))
    metrics = made.update(state, Sample(same, silent(1, 1)), KEY)[1]
    soft = -metrics["actor_loss"]
    value = metrics["q_target"] / 0.9
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * (soft - value) ** 2, rtol=1e-4)


def test_losses_by_hand(made):
    """For one transition, the critic's loss under two targets yields Q of both heads; with them and
    the policy, the entropy and the actor's loss are computed by hand."""
    state = made.start()
    one = steps(1, 1, terminated=np.ones((1, 1), bool))
    obs = np.asarray(one.obs[0])

    def loss(action, reward, what="critic_loss", state=state):
        asked = one._replace(
            action=jnp.full((1, 1), action), learning_reward=jnp.full((1, 1), reward)
        )
        return float(made.update(state, Sample(asked, silent(1, 1)), KEY)[1][what])

    # 0.5 (y - q1)² + 0.5 (y - q2)² = y² - y (q1 + q2) + (q1² + q2²) / 2 at y = 0 and 1
    total = [1.0 - loss(a, 1.0) + loss(a, 0.0) for a in (0, 1)]
    squares = [2.0 * loss(a, 0.0) for a in (0, 1)]
    apart = [np.sqrt(max(2 * s - t**2, 0)) for s, t in zip(squares, total, strict=True)]
    lower = np.array([(t - d) / 2 for t, d in zip(total, apart, strict=True)])
    assert min(apart) > 1e-2  # the two heads differ
    z = 0.5 * np.asarray(jax.random.normal(jax.random.split(KEY)[0], (1, 2)))
    probs = wiring.policy(made.learner, state.params, SPEC, obs + z)[0]
    entropy = -np.sum(probs * np.log(probs))
    np.testing.assert_allclose(loss(0, 0.0, "entropy"), entropy, rtol=1e-4)
    soft = np.sum(probs * lower) + 0.3 * entropy
    np.testing.assert_allclose(loss(0, 0.0, "actor_loss"), -soft, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(loss(0, 0.0, "q"), np.sum(probs * lower), rtol=1e-3, atol=1e-4)
    heads = state.params["heads"]
    exchanged = heads | {"first": heads["second"], "second": heads["first"]}
    exchanged = state._replace(params=state.params | {"heads": exchanged})
    again = loss(0, 0.0, "actor_loss", exchanged)
    np.testing.assert_allclose(again, loss(0, 0.0, "actor_loss"), rtol=1e-5)
    parts = ("critic_loss", "actor_loss", "value_loss")
    np.testing.assert_allclose(
        loss(0, 0.5, "loss"), sum(loss(0, 0.5, part) for part in parts), rtol=1e-4
    )


def test_the_agents_penalty_is_part_of_the_loss(made):
    state = made.start()
    batch = steps()
    told = silent()
    reward = np.zeros((4, 2))
    reward[1, 1], reward[3, 1] = 0.5, 0.25
    metrics = made.update(state, Sample(batch, told._replace(reward=jnp.asarray(reward))), KEY)[1]
    parts = sum(metrics[part] for part in ("critic_loss", "actor_loss", "value_loss"))
    # 0.25 (3 * 0.75)² of the second task, a mean over both; the weight is 3
    np.testing.assert_allclose(metrics["loss"] - parts, 0.25 * 2.25**2 / 2, rtol=1e-3)


def test_every_network_moves_and_the_target_follows_the_value(made):
    """Adam moves each parameter by the learning rate at first."""
    state = made.start()
    after, _ = made.update(state, Sample(steps(), steps(4)), KEY)
    moved = jax.tree.map(lambda a, b: jnp.abs(b - a), state.params, after.params)
    for name in ("actor", "first", "second", "value"):
        largest = max(float(jnp.max(leaf)) for leaf in jax.tree.leaves(moved["heads"][name]))
        np.testing.assert_allclose(largest, 0.01, rtol=1e-2)
    np.testing.assert_allclose(moved["agent"]["weight"], 0.01, rtol=1e-2)
    jax.tree.map(
        lambda new, old, online: np.testing.assert_allclose(
            new, 0.9 * old + 0.1 * online, rtol=1e-5, atol=1e-7
        ),
        after.target,
        state.target,
        after.params["heads"],
    )


def test_actor_and_state_value_train_no_agent():
    """Nor do targets. Action values with zero weights have no gradient with respect to the
    features, so that without a penalty nothing trains the agent."""

    def quiet(params, context, obs, key):
        return infer(params, context, obs, key)._replace(loss=jnp.zeros(obs.shape[:2]))

    agent = wiring.toy(infer_offline=quiet)
    learner = sac.make(wiring.posed(SPEC), agent, CONFIG, 10)
    state = learner.init(jax.random.key(0))
    heads = state.params["heads"]
    zero = {name: jax.tree.map(jnp.zeros_like, heads[name]) for name in ("first", "second")}
    params = state.params | {"heads": heads | zero}
    state = state._replace(params=params, target=jax.tree.map(lambda leaf: 2 * leaf, state.target))
    after, _ = jax.jit(learner.update)(state, Sample(steps(), steps(4)), KEY)
    assert after.params["agent"]["weight"] == state.params["agent"]["weight"]
    assert any(
        jnp.any(a != b)
        for a, b in zip(
            jax.tree.leaves(heads["value"]),
            jax.tree.leaves(after.params["heads"]["value"]),
            strict=True,
        )
    )


def test_its_replay_is_of_the_training_tasks_with_the_sizes_of_its_config(made):
    kind = made.learner.replay
    buffer, turns = filled(kind, calls=2, num=2)  # one meta-episode of each of four tasks
    assert turns == [[0, 1], [2, 3]]
    sample = kind.sample(buffer, KEY, 5)
    assert sample.batch.reward.shape == (3, 5)
    assert sample.context.reward.shape == (4, 5)


def test_agents_that_learn_from_histories_are_refused():
    with pytest.raises(ValueError, match="goes with pearl alone"):
        sac.make(wiring.posed(SPEC), wiring.toy(), CONFIG)
