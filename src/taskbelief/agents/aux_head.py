"""Agent C: the baseline with a head that predicts the label from its memory.

The gradient of the prediction shapes the memory that actor and critic read
(Humplik et al. 2019, "auxiliary head").
"""

from __future__ import annotations

from flax import nnx

from taskbelief.agents import _history, _label
from taskbelief.agents._label import Config
from taskbelief.networks import cores, functional, heads
from taskbelief.networks.torsos import MLP
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Core,
    EnvSpec,
    Features,
    Key,
    LabelSpec,
    Params,
)

__all__ = ["Config", "make"]


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


def make(problem: Problem, config: Config = Config()) -> Agent:
    """The agent for `problem`, whose label it learns to predict."""
    spec, label = problem.spec, problem.label.spec
    network = functional(lambda rngs: _Network(spec, label, config, rngs=rngs))

    def predict(params: Params, memory: Array) -> Array:
        return network.apply(params, memory, method="predict")

    belief = _label.prediction(label, predict, config)

    def initial_core(batch: int) -> Core:
        return cores.CORES[config.core].initial(batch, config.hidden)

    def unroll(
        params: Params, core: Core, inputs: AgentInput, key: Key | None
    ) -> tuple[Core, Features]:
        x = _history.read(spec, inputs)
        core, memory, price = network.apply(
            params, core, x, inputs.task_start, key, method="remember"
        )
        features = belief.read(params, memory, inputs.obs, [memory, x])
        return core, Features(features, features, memory, price)

    stochastic = config.bottleneck_beta > 0
    return Agent(
        network.init,
        initial_core,
        unroll,
        belief.loss,
        belief.log_prob,
        stochastic,
        belief_mean=belief.mean,
        belief_cdf=belief.cdf,
        needs=config.needs,
    )
