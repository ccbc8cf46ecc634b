"""The baseline with an auxiliary head that predicts the label from its memory.

The gradient of the prediction trains the memory that actor and critic read
(Humplik et al. 2019, agent C, "auxiliary head").
"""

from __future__ import annotations

from flax import nnx

from taskbelief.agents import _history
from taskbelief.agents._history import LabelConfig as Config
from taskbelief.networks import MLP, cores, functional, heads
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Carry,
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
        self, carry: Carry, x: Array, reset: Array, key: Key | None
    ) -> tuple[Carry, Array, Array]:
        return self.history(carry, x, reset, key)

    def predict(self, memory: Array) -> Array:
        return self.head(memory)


def make(problem: Problem, config: Config = Config()) -> Agent:
    """Returns the agent for `problem`, which learns to predict its label."""
    spec, label = problem.spec, problem.label.spec
    network = functional(lambda rngs: _Network(spec, label, config, rngs=rngs))

    def predict(params: Params, memory: Array) -> Array:
        return network.apply(params, memory, method="predict")

    belief = _history.prediction(label, predict, config)

    def initial_carry(batch: int) -> Carry:
        return cores.CORES[config.core].initial(batch, config.hidden)

    def unroll(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Features]:
        x = _history.read(spec, inputs)
        carry, memory, penalty = network.apply(
            params, carry, x, inputs.task_start, key, method="remember"
        )
        features = belief.read(params, memory, inputs.obs, [memory, x])
        return carry, Features(features, features, memory, penalty)

    stochastic = config.bottleneck_beta > 0
    return Agent(
        network.init,
        initial_carry,
        unroll,
        belief.loss,
        belief.log_prob,
        stochastic,
        belief_mean=belief.mean,
        belief_cdf=belief.cdf,
        needs=config.needs,
    )
