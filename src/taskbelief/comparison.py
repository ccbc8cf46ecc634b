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
from taskbelief.posterior import Belief
from taskbelief.types import (
    Agent,
    Array,
    Categories,
    Env,
    Features,
    Key,
    Label,
    LabelSpec,
    Learner,
    Params,
    Reals,
    Task,
)

# Draws from the posterior where labels cannot be listed; the mean over tasks averages, too.
_SAMPLES = 8

# (params, posterior over time [T, ...], features [T, 1, ...], obs [T, D], key) -> KL [T]
_Divergence = Callable[[Params, Belief, Features, Array, Key], Array]


def make(
    env: Env, agent: Agent, learner: Learner, kind: str, num: int = 500
) -> Callable[[Params, Params, Task, Key], Array] | None:
    """(params, actor, K tasks, key) -> KL(exact || learned) in nats, [T, K]; to be jitted.

    `params` believe; `actor`, the same or others of the same agent, act and make the histories.

    None where the two cannot be held against each other: the agent has no belief, or its
    label is no function of the task alone (an expert's action), says nothing of tasks that
    were not trained on (an index), or has no posterior in closed form (a bandit's best arm).

    Args:
      env: as it is played, `env.at_test()`.
      kind: of the labels that the belief was trained with, see supervision.py.
      num: size of the grid of hypotheses, where there are infinitely many tasks.
    """
    if agent.belief_log_prob is None:
        return None
    exact = posterior.make(env, num)
    divergence = _divergence(env, agent, exact, kind)
    if divergence is None:
        return None

    def compare(params: Params, actor: Params, tasks: Task, key: Key) -> Array:
        play_key, draw_key = jax.random.split(key)
        batch = rollout.batch_size(tasks)
        core = agent.initial_core(batch)
        played = rollout.collect(
            env,
            tasks,
            play_key,
            lambda core, inputs, _: learner.act(actor, core, inputs, None),
            core,
        )
        inputs = jax.tree.map(lambda leaf: leaf[:-1], played.inputs)
        _, features = agent.unroll(params["agent"], core, inputs, None)

        def one(xs: tuple) -> Array:
            """One meta-episode at a time: beliefs over time are large."""
            obs, action, reward, features, key = xs
            beliefs = posterior.along(exact, obs, action, reward)
            beliefs = jax.tree.map(lambda leaf: leaf[:-1], beliefs)
            features = jax.tree.map(lambda leaf: leaf[:, None], features)
            return divergence(params["agent"], beliefs, features, obs[:-1], key)

        by_task = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 1, 0),
            (played.inputs.obs, played.action, played.reward, features),
        )
        return jax.lax.map(one, (*by_task, jax.random.split(draw_key, batch))).T

    return compare


def _divergence(
    env: Env, agent: Agent, exact: posterior.Posterior, kind: str
) -> _Divergence | None:
    """Of the way that suits the label; None: there is none."""
    log_prob = agent.belief_log_prob
    assert log_prob is not None

    def learned(params: Params, features: Features, h: Array) -> Array:
        """log b(h), [T], of labels [T, ...]."""
        return log_prob(params, features, Label(h[:, None]))[:, 0]

    def of_draws(
        params: Params, beliefs: Belief, features: Features, obs: Array, key: Key
    ) -> Array:
        """Independent arms: the mean over draws of log p(h) - log b(h)."""
        del obs

        def draw(key: Key) -> Array:
            steps = jax.random.split(key, features.belief.shape[0])
            h = jax.vmap(lambda belief, key: env.describe(exact.sample(belief, key)))(
                beliefs, steps
            )
            return jax.vmap(exact.log_prob_label)(beliefs, h) - learned(params, features, h)

        return jnp.mean(jax.lax.map(draw, jax.random.split(key, _SAMPLES)), axis=0)

    def of_hypotheses(
        params: Params, beliefs: Belief, features: Features, obs: Array, key: Key
    ) -> Array:
        """Over all hypotheses. Where they stand for a continuum, the learned density counts
        where tasks can be, on the grid, and is normalised there."""
        del key
        if kind == "description":
            assert exact.labels is not None
            h = jnp.broadcast_to(exact.labels, (len(obs), *exact.labels.shape))
        else:
            per_task = jax.vmap(env.goal, in_axes=(None, 0))
            h = jax.vmap(per_task, in_axes=(0, None))(obs, exact.tasks)
        logs = jax.vmap(lambda h: learned(params, features, h), in_axes=1, out_axes=1)(h)
        if isinstance(family, Reals):
            logs = jax.nn.log_softmax(logs, axis=1)
        probs = jnp.exp(beliefs.log_probs)
        return jnp.sum(probs * (beliefs.log_probs - logs), axis=1)

    def of_goals(
        params: Params, beliefs: Belief, features: Features, obs: Array, key: Key
    ) -> Array:
        """Over all goals, which several hypotheses may share: their exact marginals."""
        del key
        assert isinstance(family, Categories)
        per_task = jax.vmap(env.goal, in_axes=(None, 0))
        goals = jax.vmap(per_task, in_axes=(0, None))(obs, exact.tasks)[..., 0]  # [T, K]
        one_hots = jax.nn.one_hot(goals, family.classes)
        marginals = jnp.einsum("tk,tkc->tc", jnp.exp(beliefs.log_probs), one_hots)
        each = jax.vmap(
            lambda goal: learned(params, features, jnp.full((len(obs), 1), goal, jnp.int32)),
            out_axes=1,
        )(jnp.arange(family.classes))
        logs = jnp.log(jnp.maximum(marginals, 1e-12))
        return jnp.sum(marginals * (logs - each), axis=1)

    if kind == "description":
        family: LabelSpec = env.spec.task
        return of_draws if exact.tasks is None else of_hypotheses
    if kind in ("expert_goal", "posterior_goal"):
        family = env.spec.goal
        if isinstance(family, Reals):
            return of_hypotheses
        # P(best arm) of independent arms has no closed form
        single = isinstance(family, Categories) and family.places == 1
        return of_goals if single and exact.tasks is not None else None
    return None
