"""Tests of distributions: actions, labels and the bottleneck, against SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import integrate, stats

from taskbelief.networks import functional, heads
from taskbelief.networks.bottleneck import Bottleneck
from taskbelief.types import Categories, Continuous, Discrete, Probabilities, Reals

NONE = jnp.zeros(0)  # an observation that is not read


# ---- labels -----------------------------------------------------------------------

PLACES = Reals(2, centre=(1.0, -2.0), scale=(3.0, 0.5))


def test_a_normal_belief_has_the_density_of_the_label_itself():
    """The density is not that of the standardised label, which lacks the scales."""
    head = heads.label_head(PLACES)
    params = np.array([0.3, -0.7, 0.2, -1.0])
    h = np.array([2.0, -1.8])
    deviation = 0.1 + np.log1p(np.exp(params[2:]))
    belief = stats.norm([1 + 3 * 0.3, -2 + 0.5 * -0.7], [3, 0.5] * deviation)
    np.testing.assert_allclose(head.log_prob(params, h), belief.logpdf(h).sum(), rtol=1e-5)
    np.testing.assert_allclose(head.mean(params), belief.mean(), rtol=1e-5)
    summary = head.summary(params, NONE)
    np.testing.assert_allclose(summary, [0.3, -0.7, *deviation], rtol=1e-5)


def test_a_real_label_is_read_from_where_the_agent_is():
    """With an `origin`, the agent's coordinates replace the centre."""
    here = Reals(2, PLACES.centre, PLACES.scale, origin=(3, 1))
    h, obs = jnp.array([4.0, -1.0]), jnp.array([9.0, 1.0, 9.0, -2.0])
    np.testing.assert_allclose(heads.label_head(PLACES).embed(h, obs), [1.0, 2.0])
    np.testing.assert_allclose(heads.label_head(here).embed(h, obs), [2.0, -4.0])


def test_a_beta_belief_has_the_density_of_its_mean_and_concentration():
    head = heads.label_head(Probabilities(2))
    params = np.array([0.5, -2.0, 1.0, 0.3])
    h = np.array([0.2, 0.6])
    mean, concentration = 1 / (1 + np.exp(-params[:2])), 2 * np.exp(params[2:])
    belief = stats.beta(mean * concentration, (1 - mean) * concentration)
    np.testing.assert_allclose(head.log_prob(params, h), belief.logpdf(h).sum(), rtol=1e-4)
    np.testing.assert_allclose(head.mean(params), mean, rtol=1e-5)
    # zero parameters give the prior, U(0, 1); networks read values in units of its deviation
    np.testing.assert_allclose(head.log_prob(np.zeros(4), h), 0.0, atol=1e-5)
    np.testing.assert_allclose(head.embed(h, NONE), (h - 0.5) / stats.uniform.std(), rtol=1e-5)
    np.testing.assert_allclose(
        head.summary(params, NONE), (mean - 0.5) / stats.uniform.std(), rtol=1e-5
    )


def test_a_categorical_belief_is_a_product_over_places():
    spec = Categories(2, 3, coordinates=((0.0, 1.0), (2.0, 0.0), (4.0, 5.0)), origin=(1, 0))
    head = heads.label_head(spec)
    probs = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    params = np.log(probs).reshape(-1) + 7.0  # logits need not be normalised
    h = jnp.array([2, 1])
    np.testing.assert_allclose(head.log_prob(params, h), np.log(0.3 * 0.1), rtol=1e-5)
    np.testing.assert_allclose(head.mean(params), probs, rtol=1e-5)
    obs = jnp.array([1.0, 3.0])  # y, x
    read = [[0, 0, 1, 4 - 3, 5 - 1], [0, 1, 0, 2 - 3, 0 - 1]]
    np.testing.assert_allclose(head.embed(h, obs), np.ravel(read))
    expected = [[*probs[0], 2.2 - 3, 1.7 - 1], [*probs[1], 1.4 - 3, 2.1 - 1]]
    mode = [[0, 1, 0, 2 - 3, 0 - 1], [1, 0, 0, 0 - 3, 1 - 1]]
    np.testing.assert_allclose(
        head.summary(params, obs), np.ravel([expected, mode]).tolist(), rtol=1e-4
    )
    assert head.embed_dim == 10 and head.num_params == 6


# ---- actions ----------------------------------------------------------------------

SQUASHED = heads.action_head(Continuous(1))
RAW = jnp.array([0.4, 0.8])  # mean; raw deviation
STD = 0.05 + 0.95 / (1 + np.exp(-0.8))


def density(action):
    """Returns the density of tanh(u), u normal, by the change of variables."""
    return stats.norm(0.4, STD).pdf(np.arctanh(action)) / (1 - action**2)


def test_a_squashed_normal_has_the_density_of_the_action():
    actions = np.array([-0.9, -0.2, 0.3, 0.95])
    found = SQUASHED.log_prob(jnp.broadcast_to(RAW, (4, 2)), actions[:, None])
    np.testing.assert_allclose(found, np.log(density(actions)), rtol=1e-4)
    two = heads.action_head(Continuous(2))  # independent: the sum over the entries
    params = jnp.stack([RAW, RAW], axis=1).reshape(-1)
    np.testing.assert_allclose(
        two.log_prob(params, actions[:2]), np.log(density(actions[:2])).sum(), rtol=1e-4
    )
    np.testing.assert_allclose(SQUASHED.mode(RAW), np.tanh(0.4), rtol=1e-5)


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("mean", [4.5, 5.1, 8.0])
def test_an_action_at_the_rim_has_the_probability_of_all_that_tanh_brings_there(mean, side):
    """Means on both sides of the rim, atanh(1 - 1e-4) = 4.95; far beyond it all is at the rim, and
    nothing depends on the mean."""
    params = jnp.array([side * mean, 0.8])
    log_prob, slope = jax.value_and_grad(SQUASHED.log_prob)(params, jnp.array([side * (1 - 1e-4)]))
    edge = np.arctanh(1 - 1e-4)
    expected = stats.norm(mean, STD).logsf(edge) - np.log(1e-4)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4)
    hazard = np.exp(stats.norm(mean, STD).logpdf(edge) - stats.norm(mean, STD).logsf(edge))
    np.testing.assert_allclose(slope[0], side * hazard, rtol=1e-3, atol=1e-6)
    drawn = SQUASHED.sample(jnp.broadcast_to(params, (1000, 2)), jax.random.key(0))
    assert np.abs(drawn).max() <= 1 - 1e-4 + 1e-7
    at = np.mean(np.abs(drawn) >= np.float32(1 - 1e-4))
    np.testing.assert_allclose(at, stats.norm(mean, STD).sf(edge), atol=0.05)


def test_draws_entropy_and_expectation_of_a_squashed_normal():
    rim = 1 - 1e-9
    entropy, mean = (
        integrate.quad(lambda a, f=f: density(a) * f(a), -rim, rim)[0]
        for f in (lambda a: -np.log(density(a)), lambda a: a)
    )
    drawn = np.asarray(SQUASHED.sample(jnp.broadcast_to(RAW, (4000, 2)), jax.random.key(0)))
    assert stats.kstest(np.arctanh(drawn[:, 0]), stats.norm(0.4, STD).cdf).pvalue > 1e-3
    each = SQUASHED.entropy(jnp.broadcast_to(RAW, (4000, 2)), jax.random.key(1))
    np.testing.assert_allclose(np.mean(each), entropy, atol=5 * np.std(each) / 63)
    linear = heads.ActionValue(lambda action: 2 * action[..., 0] + 1, tuple)
    found = SQUASHED.expect(RAW, linear, jax.random.key(2), 4000)
    np.testing.assert_allclose(found, (2 * mean + 1, entropy), atol=0.05)


def test_the_expectation_of_a_squashed_normal_moves_with_its_parameters():
    """The gradient is reparameterised, without REINFORCE: E[d tanh(u) / du] for the mean."""

    def value(params):
        linear = heads.ActionValue(lambda action: action[..., 0], tuple)
        return SQUASHED.expect(params, linear, jax.random.key(0), 4000)[0]

    u = stats.norm(0.4, STD)
    slope = u.expect(lambda u: 1 - np.tanh(u) ** 2)
    np.testing.assert_allclose(jax.grad(value)(RAW)[0], slope, atol=0.02)


def test_a_softmax_policy_by_hand():
    head = heads.action_head(Discrete(3))
    probs = np.array([0.2, 0.5, 0.3])
    params = jnp.log(jnp.asarray(probs)) - 3.0
    entropy = -np.sum(probs * np.log(probs))
    key = jax.random.key(0)
    np.testing.assert_allclose(head.log_prob(params, jnp.array(2)), np.log(0.3), rtol=1e-5)
    np.testing.assert_allclose(head.entropy(params, key), entropy, rtol=1e-5)
    assert head.mode(params) == 1
    values = heads.ActionValue(lambda action: action, lambda: jnp.array([1.0, 10.0, 100.0]))
    found = head.expect(params, values, key, 1)
    np.testing.assert_allclose(found, (0.2 + 5 + 30, entropy), rtol=1e-5)
    drawn = np.bincount(head.sample(jnp.broadcast_to(params, (5000, 3)), key), minlength=3)
    assert stats.chisquare(drawn, probs * 5000).pvalue > 1e-3


@pytest.mark.parametrize("spec", [Continuous(2), Discrete(3)])
def test_q_networks_tell_actions_apart(spec):
    """Continuous: the first layer is linear in features and action, and normalised before its
    ReLU. Discrete: one output each."""
    head = heads.action_head(spec)
    q = head.q_network(4, (5,), rngs=nnx.Rngs(0))
    features = jax.random.normal(jax.random.key(0), (6, 4))
    if isinstance(spec, Continuous):
        action = jax.random.normal(jax.random.key(1), (6, 2))
        first = features @ q.features.kernel + q.features.bias + action @ q.action.kernel
        deviations = first - first.mean(-1, keepdims=True)
        first = deviations / np.sqrt(np.mean(np.square(deviations), axis=-1, keepdims=True) + 1e-6)
        wanted = jax.nn.relu(first) @ q.rest.layers[0].kernel + q.rest.layers[0].bias
        np.testing.assert_allclose(q.value(features).at(action), wanted[:, 0], rtol=1e-5, atol=1e-6)
        with pytest.raises(TypeError, match="cannot be listed"):
            q.value(features).each()
    else:
        value = q.value(features)
        action = jnp.array([0, 1, 2, 2, 1, 0])
        np.testing.assert_array_equal(value.at(action), value.each()[jnp.arange(6), action])


# ---- bottleneck -------------------------------------------------------------------


def bottleneck(mean, deviation):
    """Returns (apply, params) of a bottleneck whose code has one distribution for all memories."""
    network = functional(lambda rngs: Bottleneck(1, len(mean), rngs=rngs))
    params = network.init(jax.random.key(0))
    raw = np.log(np.expm1(deviation)) + 1.0  # deviations are softplus(raw - 1)
    params["encode"]["kernel"] = jnp.zeros_like(params["encode"]["kernel"])
    params["encode"]["bias"] = jnp.asarray([*mean, *raw], jnp.float32)
    return network.apply, params


def test_a_bottleneck_costs_the_divergence_of_its_code_from_the_prior():
    mean, std = np.array([1.5, -0.5, 0.0]), np.array([0.5, 2.0, 0.1])
    apply, params = bottleneck(mean, std)
    _, kl = apply(params, jnp.ones((2, 4, 1)), None)
    wanted = 0.5 * (std**2 + mean**2 - 1) - np.log(std)
    reverse = np.log(std) + (1 + mean**2) / (2 * std**2) - 0.5
    assert abs(wanted.sum() - reverse.sum()) > 1.0  # KL(prior || code) is another number
    np.testing.assert_allclose(kl, np.full((2, 4), wanted.sum()), rtol=1e-5)


def test_a_bottleneck_draws_in_training_and_takes_the_mean_at_evaluation():
    mean, std = np.array([1.5, -0.5]), np.array([0.5, 2.0])
    apply, params = bottleneck(mean, std)
    memory = jnp.ones((4000, 1))
    code, _ = apply(params, memory, None)
    np.testing.assert_array_equal(code, np.broadcast_to(np.float32(mean), (4000, 2)))
    drawn = np.asarray(apply(params, memory, jax.random.key(0))[0])
    for i in range(2):
        assert stats.kstest(drawn[:, i], stats.norm(mean[i], std[i]).cdf).pvalue > 1e-3
