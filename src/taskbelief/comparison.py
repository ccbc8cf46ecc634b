"""Comparison of learned beliefs with the exact posterior: KL(exact || learned) at each step.

The divergence measures how far an agent's belief is from the best possible one along the agent's
own histories, which no return can show. While an agent learns to explore, its histories become
more informative, and the error of its belief may grow although it learns; the posterior along the
same histories separates the two.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from taskbelief import posterior, rollout
from taskbelief.problem import Problem
from taskbelief.types import Agent, Array, Key, Label, Learner, Params, Task


def make(
    problem: Problem, agent: Agent, learner: Learner, num: int = 500
) -> Callable[[Params, Params, Task, Key], Array] | None:
    """Returns the function (params, actor, K tasks, key) -> KL(exact || learned) in nats, [T, K],
    to be jitted.

    `params` are the parameters of the belief; `actor`, the same or others of the same agent, those
    of the policy that generates the histories.

    None where a comparison is impossible: the agent has no belief, or its label is not a function
    of the task alone (an expert's action), or has no meaning for tasks outside the training set (an
    index).

    Args:
      problem: the problem at test, `problem.at_test()`, with the label that the belief was trained
        with.
      num: size of the grid of hypotheses, for infinite task spaces.
    """
    log_prob, known = agent.belief_log_prob, problem.label.exact
    if log_prob is None or known is None:
        return None
    exact = problem.posterior(num)

    def compare(params: Params, actor: Params, tasks: Task, key: Key) -> Array:
        play_key, draw_key = jax.random.split(key)
        batch = rollout.batch_size(tasks)
        carry = agent.initial_carry(batch)
        played = rollout.collect(
            problem.env,
            tasks,
            play_key,
            lambda carry, inputs, _: learner.act(actor, carry, inputs, None),
            carry,
        )
        inputs = jax.tree.map(lambda leaf: leaf[:-1], played.inputs)
        _, features = agent.unroll(params["agent"], carry, inputs, None)

        def one(xs: tuple) -> Array:
            """Processes one meta-episode at a time, because beliefs over time are large."""
            obs, reached, action, reward, features, key = xs
            beliefs = posterior.along(exact, obs, action, reward, reached)
            beliefs = jax.tree.map(lambda leaf: leaf[:-1], beliefs)
            features = jax.tree.map(lambda leaf: leaf[:, None], features)

            def learned(h: Array) -> Array:
                """Returns log b(h), [T], of labels [T, ...]."""
                return log_prob(params["agent"], features, Label(h[:, None]))[:, 0]

            return known.divergence(exact, beliefs, obs[:-1], learned, key)

        by_task = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 1, 0),
            (played.inputs.obs, played.inputs.reached, played.action, played.reward, features),
        )
        return jax.lax.map(one, (*by_task, jax.random.split(draw_key, batch))).T

    return compare
