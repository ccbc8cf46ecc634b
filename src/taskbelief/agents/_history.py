"""Parts that agents share: inputs, recurrent trunk (encoder, core, bottleneck), label's head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief import view
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
        """Units of the memory."""
        return self.bottleneck_size if self.bottleneck_beta else self.hidden


def read(spec: EnvSpec, inputs: AgentInput) -> Array:
    """Concatenates everything that an agent may see when it acts, [T, B, D]."""
    return jnp.concatenate([view.observe(spec, inputs), clock(spec, inputs)], axis=-1)


def clock(spec: EnvSpec, inputs: AgentInput) -> Array:
    """Returns the elapsed share of the episode, [T, B, 1]. Without it a feed-forward critic cannot
    distinguish a state just before a reset from the same state with time left."""
    return inputs.elapsed[..., None].astype(jnp.float32) / spec.episode_steps


def read_dim(spec: EnvSpec) -> int:
    """Returns D of `read`."""
    return view.size(spec) + 1


class History(nnx.Module):
    """The recurrent trunk: the history of (x, a, r) -> memory (as in RL², Duan et al. 2016)."""

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
        """Returns (carry, memory [T, B, memory_size], penalty on the memory [T, B]) for inputs
        x [T, B, D] and reset [T, B]."""
        carry, memory = self.core(carry, jax.nn.relu(self.encoder(x)), reset)
        if self.bottleneck is None:
            return carry, memory, jnp.zeros(x.shape[:2])
        memory, kl = self.bottleneck(memory, key)
        return carry, memory, self.beta * kl


def bottleneck_metrics(config: Config, features: Features) -> Metrics:
    """Returns the information that passes the bottleneck, in nats per step."""
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
    """whether actor and critic also read the expected label, through a stop-gradient [ours]"""

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
    """Returns the functions of a label's head; `predict(params, belief)` gives the parameters of
    the label's distribution."""
    head = heads.label_head(label)

    def read(params: Params, belief: Array, obs: Array, parts: list[Array]) -> Array:
        """Concatenates `parts`, [T, B, .] each, and with `read_prediction` the prediction."""
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
