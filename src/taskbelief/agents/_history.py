"""The recurrent trunk that agents share: inputs, encoder, core, bottleneck."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.networks import cores, heads
from taskbelief.networks.bottleneck import Bottleneck
from taskbelief.types import AgentInput, Array, Core, EnvSpec, Features, Key, Metrics, Needs


@dataclass(frozen=True)
class Config:
    core: str = "lstm"
    """recurrent core: lstm, gru, mingru or lru (the last two are linear in time)"""
    hidden: int = 64
    """units of the core"""
    encoder: int = 64
    """units of the layer before the core"""
    bottleneck_beta: float = 0.0
    """price of a nat per step that the memory keeps (information bottleneck); 0: none"""
    bottleneck_size: int = 32
    """units of the bottleneck"""

    @property
    def needs(self) -> Needs:
        return Needs()

    @property
    def memory_size(self) -> int:
        """Units of what is remembered."""
        return self.bottleneck_size if self.bottleneck_beta else self.hidden


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
            clock(spec, inputs),
        ],
        axis=-1,
    )


def clock(spec: EnvSpec, inputs: AgentInput) -> Array:
    """[T, B, 1]: the share of the episode that is over. Without it a feed-forward critic cannot
    tell a state just before a reset from the same state with time left."""
    return inputs.elapsed[..., None].astype(jnp.float32) / spec.episode_steps


def read_dim(spec: EnvSpec) -> int:
    """D of `read`."""
    return spec.obs_dim + heads.action_head(spec.action).embed_dim + 3


class History(nnx.Module):
    """(x, a, r) so far -> what to remember of it; the core of agent A (RL², Duan et al. 2016)."""

    def __init__(self, spec: EnvSpec, config: Config, *, rngs: nnx.Rngs):
        self.encoder = nnx.Linear(read_dim(spec), config.encoder, rngs=rngs)
        core = cores.CORES[config.core]
        self.core = core(config.encoder, config.hidden, spec.task_steps, rngs=rngs)
        self.beta = config.bottleneck_beta
        self.bottleneck = (
            Bottleneck(config.hidden, config.bottleneck_size, rngs=rngs) if self.beta else None
        )

    def __call__(
        self, core: Core, x: Array, reset: Array, key: Key | None
    ) -> tuple[Core, Array, Array]:
        """x [T, B, D], reset [T, B] -> (core, memory [T, B, memory_size], its price [T, B])."""
        core, memory = self.core(core, jax.nn.relu(self.encoder(x)), reset)
        if self.bottleneck is None:
            return core, memory, jnp.zeros(x.shape[:2])
        memory, kl = self.bottleneck(memory, key)
        return core, memory, self.beta * kl


def bottleneck_metrics(config: Config, features: Features) -> Metrics:
    """What the bottleneck lets through, nats per step."""
    if not config.bottleneck_beta:
        return {}
    return {"bottleneck_kl": jnp.mean(features.loss) / config.bottleneck_beta}
