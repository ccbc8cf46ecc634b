"""Agent A: an LSTM over (x, a, r) inside actor and critic, trained by reward alone.

Like RL² (Duan et al. 2016; Humplik et al. 2019, "baseline"). Our choice: actor and critic
share one core, which halves the cost of the recurrent part.
"""

from __future__ import annotations

import jax.numpy as jnp

from taskbelief.agents import _history
from taskbelief.agents._history import Config
from taskbelief.networks import cores, functional
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

__all__ = ["Config", "make"]


def make(spec: EnvSpec, label: LabelSpec, config: Config = Config()) -> Agent:
    """The agent for environments like `spec`; `label` is not used."""
    del label
    network = functional(lambda rngs: _history.History(spec, config, rngs=rngs))

    def initial_core(batch: int) -> Core:
        return cores.CORES[config.core].initial(batch, config.hidden)

    def unroll(
        params: Params, core: Core, inputs: AgentInput, key: Key | None
    ) -> tuple[Core, Features]:
        x = _history.read(spec, inputs)
        core, memory, price = network.apply(params, core, x, inputs.task_start, key)
        features = jnp.concatenate([memory, x], axis=-1)
        return core, Features(features, features, memory, price)

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        del params, label
        return jnp.zeros(()), _history.bottleneck_metrics(config, features)

    stochastic = config.bottleneck_beta > 0
    return Agent(network.init, initial_core, unroll, aux_loss, stochastic=stochastic)
