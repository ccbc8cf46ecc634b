"""Tests of the divergence of learned beliefs from the exact posterior, in known cases."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import taskbelief
from taskbelief import comparison, posterior, problem, rollout
from taskbelief.networks import heads
from tests.wiring import small

STEPS = 3


def knowing(agent, family, params_of):
    """Returns `agent` with a constant belief: `params_of` as the parameters of the head."""
    head = heads.label_head(family)

    def log_prob(params, features, label):
        shape = (*features.belief.shape[:2], head.num_params)
        return head.log_prob(jnp.broadcast_to(params_of, shape), label.h)

    return agent._replace(belief_log_prob=log_prob)


def divergence(env_name, kind, family, params_of, beliefs_of, steps=STEPS, num=8, obs=None):
    """Returns (exact posterior, KL(exact || learned) [steps]). `beliefs_of(exact)`: the exact
    belief; `params_of`: the parameters of the learned one."""
    env: Any = small(env_name, "belief")[0]
    head = heads.label_head(family(env.spec))
    params = jnp.broadcast_to(jnp.asarray(params_of, jnp.float32), (steps, head.num_params))
    exact = posterior.make(env, num)
    belief = beliefs_of(exact)
    belief = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (steps, *leaf.shape)), belief)
    obs = jnp.zeros((steps, env.spec.obs_dim)) if obs is None else obs
    measure = problem.make(env, kind).label.exact.divergence
    assert measure is not None
    return exact, measure(exact, belief, obs, lambda h: head.log_prob(params, h), jax.random.key(0))


def of_task(spec):
    return spec.task


def of_goal(spec):
    return spec.goal


def weights(masses):
    return lambda exact: exact.init()._replace(log_probs=jnp.log(jnp.asarray(masses)))


def test_divergence_from_a_normal_belief_is_taken_on_the_grid():
    """The divergence is KL(exact || learned), in nats, on the support; not the reverse."""
    masses = np.array([0.3, 0.2, 0.2, 0.1, 0.08, 0.06, 0.04, 0.02])
    raw = np.array([0.5, -0.3])
    exact, found = divergence("semicircle", "description", of_task, raw, weights(masses))
    angle = np.asarray(exact.labels)[:, 0]
    std = np.pi / np.sqrt(12)
    normal = stats.norm(np.pi / 2 + 0.5 * std, std * (0.1 + np.log1p(np.exp(-0.3))))
    learned = normal.pdf(angle) / normal.pdf(angle).sum()
    wanted, reverse = stats.entropy(masses, learned), stats.entropy(learned, masses)
    assert abs(wanted - reverse) > 0.1
    np.testing.assert_allclose(found, np.full(STEPS, wanted), rtol=1e-4)


@pytest.mark.parametrize("kind", ["description", "posterior_goal"])
def test_divergence_over_places(kind):
    """A position has two coordinates: the learned density is their joint density."""
    masses = np.array([0.3, 0.2, 0.2, 0.1, 0.08, 0.06, 0.04, 0.02])
    raw = np.array([0.5, -0.3, 0.2, 0.4])
    family = of_task if kind == "description" else of_goal
    exact, found = divergence("noisy_target", kind, family, raw, weights(masses))
    centre, scale = [0, 2 / np.pi], np.sqrt([0.5, 0.5 - 4 / np.pi**2])
    std = scale * (0.1 + np.log1p(np.exp(raw[2:])))
    density = stats.norm(centre + scale * raw[:2], std).pdf(np.asarray(exact.labels)).prod(1)
    wanted = stats.entropy(masses, density / density.sum())
    np.testing.assert_allclose(found, np.full(STEPS, wanted), rtol=1e-4)


def test_divergence_over_goals_is_of_their_marginals():
    """Many sequences begin with the same pad; the next pad depends on the lights."""
    env: Any = taskbelief.make("numpad")
    masses = np.arange(1.0, 497) ** 2
    masses /= masses.sum()
    probs = np.arange(9.0, 0, -1) / 45
    obs = np.zeros((STEPS, env.spec.obs_dim), np.float32)
    obs[:2, 13] = 1.0  # no light is on
    obs[2, 15] = 1.0  # two lights: the third pad is next
    for kind in ("expert_goal", "posterior_goal"):
        exact, found = divergence(
            "numpad", kind, of_goal, np.log(probs), weights(masses), obs=jnp.asarray(obs)
        )
        sequences = np.asarray(exact.labels)
        wanted = [
            stats.entropy(np.bincount(sequences[:, place], masses, 9), probs) for place in (0, 0, 2)
        ]
        assert abs(wanted[0] - wanted[2]) > 0.01
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_divergence_over_arms_is_the_closed_form_on_average():
    """Compares the mean over draws with KL(Beta || Beta) of the arms."""
    raw = np.array([0.5, -0.5, 1.0, 1.0, 1.5, 1.0])
    wins, losses = np.array([3.0, 0.0, 1.0]), np.array([1.0, 0.0, 6.0])
    steps = 2000  # the same belief at each: eight draws a step
    _, found = divergence(
        "bandit",
        "description",
        of_task,
        raw,
        lambda exact: posterior.Counts(jnp.asarray(wins), jnp.asarray(losses)),
        steps,
    )
    mean, concentration = special.expit(raw[:3]), 2 * np.exp(raw[3:])
    learned = mean * concentration, (1 - mean) * concentration

    def kl(a, b, c, d):
        """KL(Beta(a, b) || Beta(c, d))."""
        each = special.betaln(c, d) - special.betaln(a, b) + (a - c) * special.psi(a)
        return np.sum(each + (b - d) * special.psi(b) + (c - a + d - b) * special.psi(a + b))

    wanted = kl(1 + wins, 1 + losses, *learned)
    assert abs(wanted - kl(*learned, 1 + wins, 1 + losses)) > 0.5
    error = np.std(found) / np.sqrt(steps)
    assert error < 0.02 * wanted
    np.testing.assert_allclose(np.mean(found), wanted, atol=4 * error)


@pytest.mark.parametrize("kind", ["expert_goal", "posterior_goal"])
def test_divergence_over_the_best_arm(kind):
    """After a win of the first of three arms, it is the best with probability 1/2, the others with
    1/4 each; the belief says 1/4, 1/2, 1/4."""
    belief = posterior.Counts(jnp.array([1.0, 0.0, 0.0]), jnp.zeros(3))
    raw = np.log([0.25, 0.5, 0.25])
    _, found = divergence("bandit", kind, of_goal, raw, lambda exact: belief)
    np.testing.assert_allclose(found, np.full(STEPS, 0.25 * np.log(2.0)), rtol=1e-3)


def test_the_actor_makes_the_histories_and_the_other_believes():
    """Acting uses the actor's parameters, the belief uses the others. At the first step the uniform
    belief equals the prior."""
    env, agent, learner, _ = small("bandit", "belief")
    uniform = knowing(agent, env.spec.task, jnp.zeros(6)).belief_log_prob  # Beta(1, 1) each
    asked = []

    def act(params, carry, inputs, key):
        asked.append(("act", params, key))
        return carry, jnp.zeros(16, jnp.int32), jnp.zeros(16)  # always the first arm

    def unroll(params, carry, inputs, key):
        asked.append(("unroll", params, key))
        return agent.unroll(params, carry, inputs, key)

    def log_prob(params, features, label):
        asked.append(("believe", params, None))
        return uniform(params, features, label)

    believer, actor = (learner.init(jax.random.key(seed)).params for seed in (0, 1))
    compare = comparison.make(
        problem.make(env),
        agent._replace(unroll=unroll, belief_log_prob=log_prob),
        learner._replace(act=act),
    )
    assert compare is not None
    # parameters are not arguments of the compiled function, so that `is` can distinguish them
    tasks = env.task_set("holdout", 16)
    kl = jax.jit(lambda key: compare(believer, actor, tasks, key))(jax.random.key(2))
    wanted = {"act": actor, "unroll": believer["agent"], "believe": believer["agent"]}
    assert {who for who, *_ in asked} == set(wanted)
    for who, params, key in asked:
        assert params is wanted[who] and key is None
    assert kl.shape == (env.spec.task_steps, 16)
    np.testing.assert_allclose(kl[0], 0.0, atol=1e-4)
    # at the second step the posterior has counted one pull
    one_pull = np.log(2.0) - 0.5  # KL(Beta(2, 1) || Beta(1, 1))
    np.testing.assert_allclose(np.mean(kl[1]), one_pull, atol=5 * 0.5 / np.sqrt(16 * 8))


def test_along_histories_each_step_is_compared_with_its_own_posterior():
    """The divergence of a uniform belief over the pads is log 9 - H(next pad) nats."""
    env, agent, learner, _ = small("numpad", "belief")
    agent = knowing(agent, env.spec.goal, jnp.zeros(9))

    def act(params, carry, inputs, key):
        """Moves at full force in changing directions over many pads: some are lit by chance."""
        del params, key
        return carry, jnp.sign(jnp.sin(9.0 * inputs.obs[0, :, :2])), jnp.zeros(64)

    compare = comparison.make(problem.make(env, "expert_goal"), agent, learner._replace(act=act))
    assert compare is not None
    exact = posterior.make(env)
    tasks = env.task_set("holdout", 64)

    @jax.jit
    def both(params, key):
        played = rollout.collect(
            env,
            tasks,
            jax.random.split(key)[0],
            lambda carry, inputs, key: act(params, carry, inputs, key),
            agent.initial_carry(64),
        )
        beliefs = jax.vmap(
            lambda *history: posterior.along(exact, *history), in_axes=1, out_axes=1
        )(played.inputs.obs, played.action, played.reward)
        return compare(params, params, tasks, key), beliefs.log_probs, played.inputs.obs

    params = learner.init(jax.random.key(0)).params
    found, log_probs, obs = map(np.asarray, both(params, jax.random.key(1)))
    sequences = np.asarray(exact.labels)
    lit = obs[:-1, :, 13:17].argmax(-1)
    assert np.sum(lit[1:] != lit[:-1]) > 5
    for t, i in np.ndindex(found.shape):
        pads = np.bincount(sequences[:, lit[t, i]], np.exp(log_probs[t, i]), 9)
        np.testing.assert_allclose(found[t, i], np.log(9) - stats.entropy(pads), atol=1e-3)


def test_what_cannot_be_compared_is_refused():
    env, agent, learner, _ = small("bandit", "baseline")
    assert comparison.make(problem.make(env), agent, learner) is None
    env, agent, learner, _ = small("bandit", "belief", label="task_index")
    assert comparison.make(problem.make(env, "task_index"), agent, learner) is None
