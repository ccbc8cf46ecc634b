"""The recurrent trunk that agents share: inputs, encoder, core."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.networks import cores, heads
from taskbelief.types import AgentInput, Array, Core, EnvSpec


@dataclass(frozen=True)
class Config:
    core: str = "lstm"
    """recurrent core: lstm or gru"""
    hidden: int = 64
    """units of the core"""
    encoder: int = 64
    """units of the layer before the core"""


def read(spec: EnvSpec, inputs: AgentInput) -> Array:
    """[T, B, D]: all that acting may see, side by side."""
    action = heads.action_head(spec.action).embed(inputs.prev_action)
    # before the first action of a task there is none, also for one-hot codes
    action = jnp.where(inputs.task_start[..., None], 0.0, action)
    return jnp.concatenate(
        [
            inputs.obs,
            action,
            inputs.prev_reward[..., None],
            inputs.episode_start[..., None].astype(jnp.float32),
        ],
        axis=-1,
    )


def read_dim(spec: EnvSpec) -> int:
    """D of `read`."""
    return spec.obs_dim + heads.action_head(spec.action).embed_dim + 2


class History(nnx.Module):
    """(x, a, r) so far -> what to remember of it; the core of agent A (RL², Duan et al. 2016)."""

    def __init__(self, spec: EnvSpec, config: Config, *, rngs: nnx.Rngs):
        self.encoder = nnx.Linear(read_dim(spec), config.encoder, rngs=rngs)
        core = cores.CORES[config.core]
        self.core = core(config.encoder, config.hidden, spec.task_steps, rngs=rngs)

    def __call__(self, core: Core, x: Array, reset: Array) -> tuple[Core, Array]:
        """x [T, B, D], reset [T, B] -> (core, memory [T, B, H])."""
        return self.core(core, jax.nn.relu(self.encoder(x)), reset)
