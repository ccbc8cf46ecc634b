"""What learners need to know of an agent before they build their heads."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from taskbelief.networks import heads
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    EnvSpec,
    Features,
    Key,
    Privileged,
    Trajectory,
)


def check_history(agent: Agent, learner: str) -> None:
    """Refuses an agent that learns from single transitions to a learner from whole meta-episodes.

    Raises:
      ValueError: it is such an agent.
    """
    if agent.study is not None:
        raise ValueError(
            f"{learner} learns from whole meta-episodes, and pearl from single transitions: it goes"
            " with sac"
        )


def sizes(spec: EnvSpec, agent: Agent, privileged: Privileged | None) -> tuple[int, int]:
    """Widths of what actor and critic read, without computing it."""
    action = heads.action_head(spec.action)
    inputs = AgentInput(
        obs=jnp.zeros((1, 1, spec.obs_dim)),
        prev_action=action.none(1, 1),
        prev_reward=jnp.zeros((1, 1)),
        episode_start=jnp.ones((1, 1), bool),
        task_start=jnp.ones((1, 1), bool),
        elapsed=jnp.zeros((1, 1), jnp.int32),
        reached=jnp.zeros((1, 1, spec.obs_dim)),
    )

    def features(key: Key) -> Features:
        return agent.unroll(agent.init(key), agent.initial_core(1), inputs, None)[1]

    shapes = jax.eval_shape(features, jax.random.key(0))
    told = 0 if privileged is None else privileged.size
    return shapes.actor.shape[-1], shapes.critic.shape[-1] + told


def tell(critic: Array, privileged: Privileged | None, batch: Trajectory) -> Array:
    """The critic's features, [T, B, D] or [T + 1, B, D], and beside them what it is told of the
    task.

    The task is a label: it exists while training, and nothing that acts reads a critic. The
    policy's gradient stays that of Q(history, a) in expectation, since the task given the history
    is distributed by the posterior; its variance is smaller (asymmetric actor-critic: Pinto et
    al. 2018; with history and state: Baisero & Amato 2022).
    """
    if privileged is None:
        return critic
    task = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[-1:]]), batch.label.task)
    told = privileged.read(batch.inputs.obs, task)[: len(critic)]
    return jnp.concatenate([critic, told], axis=-1)
