"""Parts that agents share: inputs, recurrent trunk (encoder, core, bottleneck), label's head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.networks import cores, heads
from taskbelief.networks.bottleneck import Bottleneck
from taskbelief.types import (
    AgentInput,
    Array,
    Carry,
    Categories,
    EnvSpec,
    Features,
    Key,
    Label,
    LabelSpec,
    Metrics,
    Needs,
    Params,
)


@dataclass(frozen=True)
class Config:
    core: str = "lstm"
    """recurrent core: lstm, gru, mingru or lru (the last two are linear in time)"""
    hidden: int = 64
    """units of the core"""
    encoder: int = 64
    """units of the layer before the core"""
    bottleneck_beta: float = 0.0
    """weight of each nat per step that the memory keeps (information bottleneck); 0: none"""
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
        core_type = cores.CORES[config.core]
        self.core = core_type(config.encoder, config.hidden, spec.task_steps, rngs=rngs)
        self.beta = config.bottleneck_beta
        self.bottleneck = (
            Bottleneck(config.hidden, config.bottleneck_size, rngs=rngs) if self.beta else None
        )

    def __call__(
        self, carry: Carry, x: Array, reset: Array, key: Key | None
    ) -> tuple[Carry, Array, Array]:
        """x [T, B, D], reset [T, B] -> (carry, memory [T, B, memory_size], its penalty [T, B])."""
        carry, memory = self.core(carry, jax.nn.relu(self.encoder(x)), reset)
        if self.bottleneck is None:
            return carry, memory, jnp.zeros(x.shape[:2])
        memory, kl = self.bottleneck(memory, key)
        return carry, memory, self.beta * kl


def bottleneck_metrics(config: Config, features: Features) -> Metrics:
    """What the bottleneck lets through, nats per step."""
    if not config.bottleneck_beta:
        return {}
    return {"bottleneck_kl": jnp.mean(features.loss) / config.bottleneck_beta}


# ---- the label's head --------------------------------------------------------------


@dataclass(frozen=True)
class LabelConfig(Config):
    head_hidden: int = 64
    """units of the hidden layer before the label's head"""
    aux_weight: float = 1.0
    """weight of the label's negative log-likelihood (nats per step) beside the RL losses"""
    read_prediction: bool = True
    """actor and critic also read the expected label, through a stop-gradient [ours]"""

    @property
    def needs(self) -> Needs:
        return Needs(label=True)


class Prediction(NamedTuple):
    read: Callable[[Params, Array, Array, list[Array]], Array]
    log_prob: Callable[[Params, Features, Label], Array]
    mean: Callable[[Params, Features], Array]
    cdf: Callable[[Params, Features, Label], Array] | None  # None: of categories
    loss: Callable[[Params, Features, Label], tuple[Array, Metrics]]


def prediction(
    label: LabelSpec, predict: Callable[[Params, Array], Array], config: LabelConfig
) -> Prediction:
    """What follows from `predict(params, belief)`, the parameters of the label's distribution."""
    head = heads.label_head(label)

    def read(params: Params, belief: Array, obs: Array, parts: list[Array]) -> Array:
        """`parts`, [T, B, .] each, and where the config says so the prediction, side by side."""
        if config.read_prediction:
            summary = head.summary(predict(params, belief), obs)
            parts = [*parts, jax.lax.stop_gradient(summary)]
        return jnp.concatenate(parts, axis=-1)

    def log_prob(params: Params, features: Features, label: Label) -> Array:
        return head.log_prob(predict(params, features.belief), label.h)

    def mean(params: Params, features: Features) -> Array:
        return head.mean(predict(params, features.belief))

    def cdf(params: Params, features: Features, label: Label) -> Array:
        return head.cdf(predict(params, features.belief), label.h)

    def loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        nll = -jnp.mean(log_prob(params, features, label))
        metrics = bottleneck_metrics(config, features)
        return config.aux_weight * nll, {"belief_nll": nll, **metrics}

    return Prediction(read, log_prob, mean, None if isinstance(label, Categories) else cdf, loss)
