"""What an agent sees of a meta-episode: one vector a step, float32.

    [0, obs_dim)    what the environment shows
    then, with the history:
    num             the action before: as it was played, or one-hot of a discrete one
    1               the reward before
    1               1 where the environment's state has just been reset, 0 elsewhere

Before the first action of a task, action and reward are zeros. Without the history a recurrent
policy that reads observations alone can never see a reward, and so cannot find out its task. The
adapters show this vector, and `taskbelief.score` shows the same to what it scores. The library's
own agents read it too, and beside it the elapsed share of the episode.
"""

from __future__ import annotations

import jax.numpy as jnp

from taskbelief.types import AgentInput, Array, EnvSpec


def size(spec: EnvSpec) -> int:
    """Entries of the vector, with the history."""
    return spec.obs_dim + spec.action.num + 2


def observe(spec: EnvSpec, inputs: AgentInput) -> Array:
    """Returns the vector, [..., size], of inputs with any leading axes."""
    action = spec.action.embed(inputs.prev_action)
    # before the first action of a task there is none, and that is not action 0
    action = jnp.where(inputs.task_start[..., None], 0.0, action)
    return join(inputs.obs, action, inputs.prev_reward, inputs.episode_start)


def join(obs: Array, action: Array, reward: Array, episode_start: Array) -> Array:
    """Joins the parts of the vector, [..., size]; `action` [..., num]."""
    last = jnp.stack([reward, episode_start.astype(jnp.float32)], axis=-1)
    return jnp.concatenate([obs, action, last], axis=-1)
