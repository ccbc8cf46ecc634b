"""A policy on the exact posterior: the result of learning with perfect inference [ours].

Actor and critic are feed-forward and read x and statistics of the posterior, which is filtered
along the history. The comparison with `belief` separates faults of inference from faults of the
policy; the comparison with the scripted explorer gives the value of planning for information.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from taskbelief.agents import _history
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Carry,
    Features,
    Key,
    Label,
    Metrics,
    Needs,
    Params,
)


@dataclass(frozen=True)
class Config:
    hypotheses: int = 256
    """size of the grid of tasks, for infinite task spaces"""

    @property
    def needs(self) -> Needs:
        return Needs(posterior=True)


def make(problem: Problem, config: Config = Config()) -> Agent:
    """Returns the agent for `problem`; it does not use the label and has no parameters.

    Raises:
      ValueError: the environment has no exact posterior.
    """
    problem.check(config.needs)
    spec, exact = problem.spec, problem.posterior(config.hypotheses)

    def initial_carry(batch: int) -> Carry:
        nothing = jnp.zeros(spec.obs_dim)
        carry = exact.init(nothing), nothing
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), carry)

    def follow(carry: Carry, now: AgentInput) -> tuple[Carry, Array]:
        """Updates the posterior of one meta-episode with the last transition, now complete."""
        belief, obs = carry
        reached = now.obs if now.reached is None else now.reached
        after = exact.update(belief, obs, now.prev_action, now.prev_reward, reached)
        belief = _where(now.task_start, exact.init(now.obs), after)
        return (belief, now.obs), exact.statistics(belief, now.obs)

    def unroll(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Features]:
        del params, key
        carry, known = jax.lax.scan(jax.vmap(follow), carry, inputs)
        x = _history.read(spec, inputs)
        features = jnp.concatenate([known, x], axis=-1)
        return carry, Features(features, features, known, jnp.zeros(x.shape[:2]))

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        del params, features, label
        return jnp.zeros(()), {}

    return Agent(lambda key: {}, initial_carry, unroll, aux_loss, needs=config.needs)


def _where(condition: Array, yes: object, no: object) -> object:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
