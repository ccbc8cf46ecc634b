"""Agent B: a belief network, trained by the label alone, in front of the policy.

Actor and critic read x and the penultimate layer of the belief network, through
a stop-gradient: what is inferred and what is done are learnt apart (Humplik et al. 2019,
"belief network").
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
    """units of the belief network's penultimate layer"""
    aux_weight: float = 1.0
    """weight of the label's negative log-likelihood (nats per step) beside the RL losses; it
    shares no parameter with them, only the limit on the gradient's norm"""
    read_prediction: bool = True
    """actor and critic also read the expected label [ours]"""
    policy_hidden: int = 0
    """units of a recurrent core of actor's and critic's own; 0: they are feed-forward"""


class _Network(nnx.Module):
    def __init__(self, spec: EnvSpec, label: LabelSpec, config: Config, *, rngs: nnx.Rngs):
        self.history = _history.History(spec, config, rngs=rngs)
        self.penultimate = nnx.Linear(config.memory_size, config.head_hidden, rngs=rngs)
        num_params = heads.label_head(label).num_params
        self.last = MLP([config.head_hidden, num_params], rngs=rngs, last_scale=0.1)
        width = config.head_hidden + _history.read_dim(spec)
        self.policy_core = (
            cores.CORES[config.core](width, config.policy_hidden, spec.task_steps, rngs=rngs)
            if config.policy_hidden
            else None
        )

    def infer(
        self, core: Core, x: Array, reset: Array, key: Key | None
    ) -> tuple[Core, Array, Array]:
        core, memory, price = self.history(core, x, reset, key)
        return core, jax.nn.relu(self.penultimate(memory)), price

    def predict(self, belief: Array) -> Array:
        return self.last(belief)

    def plan(self, core: Core, x: Array, reset: Array) -> tuple[Core, Array]:
        assert self.policy_core is not None
        return self.policy_core(core, x, reset)


def make(spec: EnvSpec, label: LabelSpec, config: Config = Config()) -> Agent:
    """The agent for environments like `spec` and labels of the family `label`."""
    head = heads.label_head(label)
    network = functional(lambda rngs: _Network(spec, label, config, rngs=rngs))
    core_type = cores.CORES[config.core]

    def initial_core(batch: int) -> Core:
        own = core_type.initial(batch, config.policy_hidden) if config.policy_hidden else ()
        return core_type.initial(batch, config.hidden), own

    def unroll(
        params: Params, core: Core, inputs: AgentInput, key: Key | None
    ) -> tuple[Core, Features]:
        x = _history.read(spec, inputs)
        core, own = core
        core, belief, price = network.apply(params, core, x, inputs.task_start, key, method="infer")
        known = jax.lax.stop_gradient(belief)
        parts = [known, x]
        if config.policy_hidden:
            own, planned = network.apply(
                params, own, jnp.concatenate(parts, axis=-1), inputs.task_start, method="plan"
            )
            parts.append(planned)
        if config.read_prediction:
            prediction = network.apply(params, belief, method="predict")
            parts.append(jax.lax.stop_gradient(head.summary(prediction, inputs.obs)))
        features = jnp.concatenate(parts, axis=-1)
        return (core, own), Features(features, features, belief, price)

    def belief_log_prob(params: Params, features: Features, label: Label) -> Array:
        return head.log_prob(network.apply(params, features.belief, method="predict"), label.h)

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        nll = -jnp.mean(belief_log_prob(params, features, label))
        metrics = _history.bottleneck_metrics(config, features)
        return config.aux_weight * nll, {"belief_nll": nll, **metrics}

    stochastic = config.bottleneck_beta > 0
    return Agent(network.init, initial_core, unroll, aux_loss, belief_log_prob, stochastic)
