"""A policy on the exact posterior: the result of learning with perfect inference [ours].

Actor and critic read x, statistics of the posterior, which is filtered along the history, and a
recurrent core on both. The comparison with `belief` separates faults of inference from faults of
the policy; the comparison with the scripted explorer gives the value of planning for information.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.agents import _history
from taskbelief.networks import cores, functional
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
    core: str = "lstm"
    """recurrent core of actor and critic: lstm, gru, mingru or lru"""
    policy_hidden: int = 64
    """units of this core; 0: actor and critic are feed-forward"""

    @property
    def needs(self) -> Needs:
        return Needs(posterior=True)


def make(problem: Problem, config: Config = Config()) -> Agent:
    """Returns the agent for `problem`; it does not use the label.

    Raises:
      ValueError: the environment has no exact posterior.
    """
    problem.check(config.needs)
    spec, exact = problem.spec, problem.posterior(config.hypotheses)
    nothing = jnp.zeros(spec.obs_dim)
    statistics = jax.eval_shape(lambda: exact.statistics(exact.init(nothing), nothing))
    width = statistics.shape[-1] + _history.read_dim(spec)
    hidden, core_type = config.policy_hidden, cores.CORES[config.core]

    def build(rngs: nnx.Rngs) -> nnx.Module:
        return core_type(width, hidden, spec.task_steps, rngs=rngs)

    network = functional(build) if hidden else None

    def initial_carry(batch: int) -> Carry:
        carry = exact.init(nothing), nothing
        known = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape)), carry)
        return known, core_type.initial(batch, hidden) if hidden else ()

    def follow(carry: Carry, now: AgentInput) -> tuple[Carry, Carry]:
        """Updates the posterior of one meta-episode with the last transition, now complete; the
        second result is the posterior alone."""
        belief, obs = carry
        reached = now.obs if now.reached is None else now.reached
        after = exact.update(belief, obs, now.prev_action, now.prev_reward, reached)
        belief = _where(now.task_start, exact.init(now.obs), after)
        return (belief, now.obs), belief

    def unroll(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Features]:
        del key
        carry, own = carry
        carry, beliefs = jax.lax.scan(jax.vmap(follow), carry, inputs)
        known = jax.vmap(jax.vmap(exact.statistics))(beliefs, inputs.obs)
        features = jnp.concatenate([known, _history.read(spec, inputs)], axis=-1)
        if network is not None:
            own, planned = network.apply(params, own, features, inputs.task_start)
            features = jnp.concatenate([features, planned], axis=-1)
        return (carry, own), Features(features, features, known, jnp.zeros(features.shape[:2]))

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        del params, features, label
        return jnp.zeros(()), {}

    init = (lambda key: {}) if network is None else network.init
    return Agent(init, initial_carry, unroll, aux_loss, needs=config.needs)


def _where(condition: Array, yes: object, no: object) -> object:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
