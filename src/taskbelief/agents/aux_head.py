"""Agent C: the baseline with a head that predicts the label from its memory.

The gradient of the prediction shapes the memory that actor and critic read
(Humplik et al. 2019, "auxiliary head").
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.agents import _history
from taskbelief.networks import cores, functional, heads
from taskbelief.networks.torsos import MLP
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Core,
    EnvSpec,
    Features,
    Key,
    Label,
    LabelSpec,
    Metrics,
    Params,
)

USES_LABEL = True  # learns from the label


@dataclass(frozen=True)
class Config(_history.Config):
    head_hidden: int = 64
    """units of the head's hidden layer"""
    aux_weight: float = 1.0
    """weight of the label's negative log-likelihood (nats per step) beside the RL losses"""
    read_prediction: bool = True
    """actor and critic also read the head's expected label, through a stop-gradient [ours]"""


class _Network(nnx.Module):
    def __init__(self, spec: EnvSpec, label: LabelSpec, config: Config, *, rngs: nnx.Rngs):
        self.history = _history.History(spec, config, rngs=rngs)
        num_params = heads.label_head(label).num_params
        sizes = [config.memory_size, config.head_hidden, num_params]
        self.head = MLP(sizes, rngs=rngs, last_scale=0.1)

    def remember(
        self, core: Core, x: Array, reset: Array, key: Key | None
    ) -> tuple[Core, Array, Array]:
        return self.history(core, x, reset, key)

    def predict(self, memory: Array) -> Array:
        return self.head(memory)


def make(spec: EnvSpec, label: LabelSpec, config: Config = Config()) -> Agent:
    """The agent for environments like `spec` and labels of the family `label`."""
    head = heads.label_head(label)
    network = functional(lambda rngs: _Network(spec, label, config, rngs=rngs))

    def initial_core(batch: int) -> Core:
        return cores.CORES[config.core].initial(batch, config.hidden)

    def unroll(
        params: Params, core: Core, inputs: AgentInput, key: Key | None
    ) -> tuple[Core, Features]:
        x = _history.read(spec, inputs)
        core, memory, price = network.apply(
            params, core, x, inputs.task_start, key, method="remember"
        )
        parts = [memory, x]
        if config.read_prediction:
            prediction = network.apply(params, memory, method="predict")
            parts.append(jax.lax.stop_gradient(head.summary(prediction, inputs.obs)))
        features = jnp.concatenate(parts, axis=-1)
        return core, Features(features, features, memory, price)

    def belief_log_prob(params: Params, features: Features, label: Label) -> Array:
        return head.log_prob(network.apply(params, features.belief, method="predict"), label.h)

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        nll = -jnp.mean(belief_log_prob(params, features, label))
        metrics = _history.bottleneck_metrics(config, features)
        return config.aux_weight * nll, {"belief_nll": nll, **metrics}

    stochastic = config.bottleneck_beta > 0
    return Agent(network.init, initial_core, unroll, aux_loss, belief_log_prob, stochastic)
