"""The label's head, as agents share it: what it predicts, what it costs, what the policy reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from taskbelief.agents import _history
from taskbelief.networks import heads
from taskbelief.types import Array, Categories, Features, Label, LabelSpec, Metrics, Needs, Params


@dataclass(frozen=True)
class Config(_history.Config):
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
    label: LabelSpec, predict: Callable[[Params, Array], Array], config: Config
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
        metrics = _history.bottleneck_metrics(config, features)
        return config.aux_weight * nll, {"belief_nll": nll, **metrics}

    return Prediction(read, log_prob, mean, None if isinstance(label, Categories) else cdf, loss)
