"""What learners need to know of an agent before they build their heads."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from taskbelief.networks import heads
from taskbelief.types import Agent, AgentInput, EnvSpec, Features, Key


def sizes(spec: EnvSpec, agent: Agent) -> tuple[int, int]:
    """Widths of the actor's and the critic's features, without computing them."""
    action = heads.action_head(spec.action)
    inputs = AgentInput(
        obs=jnp.zeros((1, 1, spec.obs_dim)),
        prev_action=action.none(1, 1),
        prev_reward=jnp.zeros((1, 1)),
        episode_start=jnp.ones((1, 1), bool),
        task_start=jnp.ones((1, 1), bool),
    )

    def features(key: Key) -> Features:
        return agent.unroll(agent.init(key), agent.initial_core(1), inputs, None)[1]

    shapes = jax.eval_shape(features, jax.random.key(0))
    return shapes.actor.shape[-1], shapes.critic.shape[-1]
