"""The divergence of learned beliefs from the exact posterior, where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import comparison, posterior, problem
from taskbelief.networks import heads
from taskbelief.types import Categories, Probabilities
from tests.test_agents import ENVS, small


def knowing(agent, family, params_of):
    """`agent` with a belief that says the same always: the head's parameters `params_of`."""
    head = heads.label_head(family)

    def log_prob(params, features, label):
        shape = (*features.belief.shape[:2], head.num_params)
        return head.log_prob(jnp.broadcast_to(params_of, shape), label.h)

    return agent._replace(belief_log_prob=log_prob)


@pytest.mark.parametrize("env_name", ENVS)
def test_the_prior_is_no_distance_from_the_prior(env_name):
    """At the first step, before anything is seen, a belief that says p(w) is exact."""
    env, agent, learner, _ = small(env_name, "belief")
    family = env.spec.task
    if isinstance(family, Probabilities):
        uniform = jnp.zeros(2 * family.num)  # Beta(1, 1)
        kind = "description"
    elif isinstance(family, Categories):
        # the first pad's marginal: not all pads begin as many sequences
        exact = posterior.make(env)
        uniform = jnp.log(exact.mean(exact.init())[0])
        kind, family = "expert_goal", env.spec.goal
    else:
        uniform = jnp.asarray([0.0, 20.0])  # a normal so wide that it is flat
        kind = "description"
    agent = knowing(agent, family, uniform)
    compare = comparison.make(problem.make(env, kind), agent, learner, num=64)
    params = learner.init(jax.random.key(0)).params
    kl = jax.jit(compare)(params, params, env.task_set("holdout", 32), jax.random.key(1))
    assert kl.shape == (env.spec.task_steps, 32)
    np.testing.assert_allclose(kl[0], 0.0, atol=5e-3)
    if env_name == "bandit":  # by Monte Carlo; elsewhere a few steps may tell nothing
        assert jnp.mean(kl[-1]) > 0.05  # what was seen is not in such a belief
    else:
        assert jnp.all(kl > -5e-3)


def test_beta_beliefs_against_the_closed_form():
    """Monte Carlo over draws against KL(Beta || Beta) of the arms."""
    import distrax

    env, agent, learner, _ = small("bandit", "belief")
    raw = jnp.asarray([0.5, -0.5, 1.0, 1.0, 1.5, 1.0])
    agent = knowing(agent, env.spec.task, raw)
    compare = comparison.make(problem.make(env), agent, learner)
    params = learner.init(jax.random.key(0)).params
    kl = jax.jit(compare)(params, params, env.task_set("holdout", 400), jax.random.key(1))
    logit, log_concentration = jnp.split(raw, 2)
    a = 2.0 * jnp.exp(log_concentration) * jax.nn.sigmoid(logit)
    b = 2.0 * jnp.exp(log_concentration) - a
    wanted = jnp.sum(distrax.Beta(1.0, 1.0).kl_divergence(distrax.Beta(a, b)))
    np.testing.assert_allclose(jnp.mean(kl[0]), wanted, rtol=0.05)


def test_what_cannot_be_compared_is_refused():
    env, agent, learner, _ = small("bandit", "baseline")
    assert comparison.make(problem.make(env), agent, learner) is None
    env, agent, learner, _ = small("bandit", "belief", label="task_index")
    assert comparison.make(problem.make(env, "task_index"), agent, learner) is None
