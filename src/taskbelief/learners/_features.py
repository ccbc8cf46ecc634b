"""Widths of an agent's features, for the heads that a learner builds on them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from taskbelief.types import (
    Agent,
    AgentInput,
    EnvSpec,
    Features,
    Key,
    Privileged,
)


def check_history(agent: Agent, learner: str) -> None:
    """Refuses an agent that learns from single transitions to a learner from whole meta-episodes.

    Raises:
      ValueError: it is such an agent.
    """
    if agent.infer_offline is not None:
        raise ValueError(
            f"{learner} learns from whole meta-episodes, and pearl from single transitions: it goes"
            " with sac"
        )


def sizes(spec: EnvSpec, agent: Agent, privileged: Privileged | None) -> tuple[int, int]:
    """Widths of the inputs of actor and critic, from shapes alone."""
    inputs = AgentInput(
        obs=jnp.zeros((1, 1, spec.obs_dim)),
        prev_action=spec.action.none(1, 1),
        prev_reward=jnp.zeros((1, 1)),
        episode_start=jnp.ones((1, 1), bool),
        task_start=jnp.ones((1, 1), bool),
        elapsed=jnp.zeros((1, 1), jnp.int32),
        reached=jnp.zeros((1, 1, spec.obs_dim)),
    )

    def features(key: Key) -> Features:
        return agent.unroll(agent.init(key), agent.initial_carry(1), inputs, None)[1]

    shapes = jax.eval_shape(features, jax.random.key(0))
    extra = 0 if privileged is None else privileged.size
    return shapes.actor.shape[-1], shapes.critic.shape[-1] + extra
