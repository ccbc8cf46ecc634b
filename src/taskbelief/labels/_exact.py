"""Exact distributions of labels, and their divergence from a learned belief."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from taskbelief.labels import Exact, Expected, Learned
from taskbelief.posterior import Belief, Posterior, best_arm, weighted_sum
from taskbelief.types import (
    Array,
    Categories,
    Env,
    HasIndependentArms,
    HasLikelihood,
    Key,
    LabelSpec,
    Reals,
    goal,
)

# Draws from the posterior where labels cannot be listed; the mean over tasks averages as well.
_SAMPLES = 8


def of_tasks(env: Env) -> Exact | None:
    """Returns the exact distribution of labels that describe the task."""
    if not isinstance(env, HasLikelihood):
        return None

    def expected(exact: Posterior, beliefs: Belief, obs: Array) -> Array:
        del obs
        return jax.vmap(exact.mean)(beliefs)

    if isinstance(env, HasIndependentArms):
        return Exact(partial(_over_draws, env), expected)

    def labels(exact: Posterior, obs: Array) -> Array:
        assert exact.labels is not None
        return jnp.broadcast_to(exact.labels, (len(obs), *exact.labels.shape))

    return Exact(partial(_over_hypotheses, env.spec.task, labels), expected)


def of_goals(env: Env) -> Exact | None:
    """Returns the exact distribution of labels that are goals."""
    if not isinstance(env, HasLikelihood):
        return None
    if isinstance(env, HasIndependentArms):
        return Exact(partial(_over_classes, _best_arm), _best_arm)
    per_task = jax.vmap(goal(env), in_axes=(None, 0))
    family = env.spec.goal

    def labels(exact: Posterior, obs: Array) -> Array:
        return jax.vmap(per_task, in_axes=(0, None))(obs, exact.tasks)

    def expected(exact: Posterior, beliefs: Belief, obs: Array) -> Array:
        goals = labels(exact, obs)
        if isinstance(family, Categories):
            goals = jax.nn.one_hot(goals, family.classes)
        return jax.vmap(weighted_sum)(jnp.exp(beliefs.log_probs), goals)

    if isinstance(family, Reals):
        return Exact(partial(_over_hypotheses, family, labels), expected)
    if isinstance(family, Categories) and family.places == 1:
        return Exact(partial(_over_classes, expected), expected)
    return None


def _best_arm(exact: Posterior, beliefs: Belief, obs: Array) -> Array:
    """Returns the probability of each arm to be the best, [T, 1, arms]."""
    del exact, obs
    return jax.vmap(best_arm)(beliefs)[:, None]


def _over_draws(
    env: Env, exact: Posterior, beliefs: Belief, obs: Array, learned: Learned, key: Key
) -> Array:
    """Averages log p(h) - log b(h) over draws, for independent arms."""

    def draw(key: Key) -> Array:
        steps = jax.random.split(key, len(obs))
        h = jax.vmap(lambda belief, key: env.describe(exact.sample(belief, key)))(beliefs, steps)
        return jax.vmap(exact.log_prob_label)(beliefs, h) - learned(h)

    return jnp.mean(jax.lax.map(draw, jax.random.split(key, _SAMPLES)), axis=0)


def _over_hypotheses(
    family: LabelSpec,
    labels: Callable[[Posterior, Array], Array],
    exact: Posterior,
    beliefs: Belief,
    obs: Array,
    learned: Learned,
    key: Key,
) -> Array:
    """Sums over all hypotheses, `labels(exact, obs)` [T, K, ...]. Where these form a grid, the
    learned density is evaluated and normalised on the grid."""
    del key
    logs = jax.vmap(learned, in_axes=1, out_axes=1)(labels(exact, obs))
    if isinstance(family, Reals):
        logs = jax.nn.log_softmax(logs, axis=1)
    probs = jnp.exp(beliefs.log_probs)
    return jnp.sum(probs * (beliefs.log_probs - logs), axis=1)


def _over_classes(
    marginals: Expected,
    exact: Posterior,
    beliefs: Belief,
    obs: Array,
    learned: Learned,
    key: Key,
) -> Array:
    """Sums over all goals, with exact marginals [T, 1, classes], because several tasks may share a
    goal."""
    del key
    probs = marginals(exact, beliefs, obs)[:, 0]
    each = jax.vmap(lambda goal: learned(jnp.full((len(obs), 1), goal, jnp.int32)), out_axes=1)(
        jnp.arange(probs.shape[-1])
    )
    return jnp.sum(probs * (jnp.log(jnp.maximum(probs, 1e-12)) - each), axis=1)
