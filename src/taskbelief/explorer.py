"""Reference policies that do not know the task: they act on the exact posterior.

Attainable by anyone who can infer: a good agent reaches the explorer, a very good one
beats it (it never tries anything for the sake of learning).
"""

from __future__ import annotations

import jax.numpy as jnp

from taskbelief import posterior, rollout
from taskbelief.posterior import Belief, Counts
from taskbelief.rollout import Scripted
from taskbelief.types import (
    Array,
    Env,
    HasExpert,
    HasIndependentArms,
    HasLikelihood,
    Key,
    State,
    Task,
)


def policies(env: Env) -> dict[str, Scripted]:
    """The reference policies that `env` has, by name."""
    found = {"random": rollout.uniform_random(env.spec)}
    if isinstance(env, HasExpert):
        found["expert"] = rollout.expert(env)
        if isinstance(env, HasLikelihood):
            found["explorer"] = explorer(env)
    if isinstance(env, HasExpert) and isinstance(env, HasIndependentArms):
        found["thompson"] = thompson(env)
        found["ucb"] = upper_confidence(env)
    return found


def explorer(env: Env, num: int = 1000) -> Scripted:
    """The expert for the most probable task, the nearest first among equally probable ones.

    For the bandit: the arm of the highest posterior mean (Bayes-greedy).
    """
    exact, expert = posterior.make(env, num), rollout.expert(env)

    def act(belief: Belief, key: Key, state: State, task: Task) -> Array:
        del task
        return expert.act((), key, state, exact.mode(belief, state))

    return Scripted(exact.init, act, exact.update)


def thompson(env: Env, num: int = 1000) -> Scripted:
    """The expert for a task drawn from the posterior, anew at each step."""
    exact, expert = posterior.make(env, num), rollout.expert(env)

    def act(belief: Belief, key: Key, state: State, task: Task) -> Array:
        del task
        return expert.act((), key, state, exact.sample(belief, key))

    return Scripted(exact.init, act, exact.update)


def upper_confidence(env: Env, bonus: float = 0.3) -> Scripted:
    """UCB for Bernoulli arms: the highest mean + bonus * sqrt(log(pulls) / pulls of the arm).

    Counts start at one win and one loss per arm, the Beta(1, 1) prior, so that an arm which
    was never pulled has a finite bound; `bonus` 0.3 was tuned by hand for 20 arms, 100 pulls.
    """
    exact = posterior.make(env)

    def act(belief: Counts, key: Key, state: State, task: Task) -> Array:
        del key, state, task
        pulls = belief.wins + belief.losses + 2
        bound = exact.mean(belief) + bonus * jnp.sqrt(jnp.log(jnp.sum(pulls)) / pulls)
        return jnp.argmax(bound).astype(jnp.int32)

    return Scripted(exact.init, act, exact.update)
