"""A belief network, trained by the label alone, whose features are inputs of the policy.

Actor and critic read x and the penultimate layer of the belief network, through a stop-gradient:
inference and control are trained separately (Humplik et al. 2019, agent B, "belief network").
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.agents import _history
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


@dataclass(frozen=True)
class Config(_history.LabelConfig):
    policy_hidden: int = 0
    """units of a separate recurrent core of actor and critic; 0: they are feed-forward"""


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
        self, carry: Carry, x: Array, reset: Array, key: Key | None
    ) -> tuple[Carry, Array, Array]:
        carry, memory, penalty = self.history(carry, x, reset, key)
        return carry, jax.nn.relu(self.penultimate(memory)), penalty

    def predict(self, belief: Array) -> Array:
        return self.last(belief)

    def plan(self, carry: Carry, x: Array, reset: Array) -> tuple[Carry, Array]:
        assert self.policy_core is not None
        return self.policy_core(carry, x, reset)


def make(problem: Problem, config: Config = Config()) -> Agent:
    """Returns the agent for `problem`, which learns to predict its label."""
    spec, label = problem.spec, problem.label.spec
    network = functional(lambda rngs: _Network(spec, label, config, rngs=rngs))
    core_type = cores.CORES[config.core]

    def predict(params: Params, belief: Array) -> Array:
        return network.apply(params, belief, method="predict")

    inferred = _history.prediction(label, predict, config)

    def initial_carry(batch: int) -> Carry:
        own = core_type.initial(batch, config.policy_hidden) if config.policy_hidden else ()
        return core_type.initial(batch, config.hidden), own

    def unroll(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Features]:
        x = _history.read(spec, inputs)
        carry, own = carry
        carry, belief, penalty = network.apply(
            params, carry, x, inputs.task_start, key, method="infer"
        )
        parts = [jax.lax.stop_gradient(belief), x]
        if config.policy_hidden:
            own, planned = network.apply(
                params, own, jnp.concatenate(parts, axis=-1), inputs.task_start, method="plan"
            )
            parts.append(planned)
        features = inferred.read(params, belief, inputs.obs, parts)
        return (carry, own), Features(features, features, belief, penalty)

    stochastic = config.bottleneck_beta > 0
    return Agent(
        network.init,
        initial_carry,
        unroll,
        inferred.loss,
        inferred.log_prob,
        stochastic,
        belief_mean=inferred.mean,
        belief_cdf=inferred.cdf,
        needs=config.needs,
    )
