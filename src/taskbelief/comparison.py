"""Learned beliefs against the exact posterior: KL(exact || learned), step by step.

What no benchmark of reward alone can tell: how much of what could be known of the task an
agent's belief does know, along its own histories. While an agent learns to explore, its histories
come to tell more, and a belief may fall behind while it learns; held against the posterior
along the same histories, it shows what it has learnt.
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
    """(params, actor, K tasks, key) -> KL(exact || learned) in nats, [T, K]; to be jitted.

    `params` believe; `actor`, the same or others of the same agent, act and make the histories.

    None where the two cannot be held against each other: the agent has no belief, or its
    label is no function of the task alone (an expert's action), says nothing of tasks that
    were not trained on (an index), or has no posterior in closed form (a bandit's best arm).

    Args:
      problem: as it is played, `problem.at_test()`; its label is the one that the belief was
        trained with.
      num: size of the grid of hypotheses, where there are infinitely many tasks.
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
            """One meta-episode at a time: beliefs over time are large."""
            obs, reached, action, reward, features, key = xs
            beliefs = posterior.along(exact, obs, action, reward, reached)
            beliefs = jax.tree.map(lambda leaf: leaf[:-1], beliefs)
            features = jax.tree.map(lambda leaf: leaf[:, None], features)

            def learned(h: Array) -> Array:
                """log b(h), [T], of labels [T, ...]."""
                return log_prob(params["agent"], features, Label(h[:, None]))[:, 0]

            return known.divergence(exact, beliefs, obs[:-1], learned, key)

        by_task = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 1, 0),
            (played.inputs.obs, played.inputs.reached, played.action, played.reward, features),
        )
        return jax.lax.map(one, (*by_task, jax.random.split(draw_key, batch))).T

    return compare
