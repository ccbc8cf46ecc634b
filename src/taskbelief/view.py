"""What an agent from outside sees of a meta-episode: one vector a step.

A task goes on over the ends of its episodes, and in some environments all there is to know of it
comes with the agent's own actions and rewards. So the vector is, in this order:

- the observation, [obs_dim];
- the previous action: as it is, [num], or one-hot where actions are discrete, [num];
- the previous reward, [1];
- 1 where an episode has just begun, else 0, [1].

On the first step of a task the previous action and reward are zeros. Adapters show this, and
`taskbelief.score` shows the same to what it scores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from taskbelief.types import AgentInput, Array, Discrete, EnvSpec


def size(spec: EnvSpec) -> int:
    """Entries of the vector."""
    return spec.obs_dim + spec.action.num + 2


def observe(spec: EnvSpec, inputs: AgentInput) -> Array:
    """The vector, [..., size], for inputs with any leading axes: float32."""
    action = inputs.prev_action
    if isinstance(spec.action, Discrete):
        # before the first action of a task there is none: action 0 is one
        action = jax.nn.one_hot(action, spec.action.num) * (1.0 - inputs.task_start[..., None])
    return jnp.concatenate(
        [
            inputs.obs,
            action,
            inputs.prev_reward[..., None],
            inputs.episode_start[..., None].astype(jnp.float32),
        ],
        axis=-1,
    )
