"""A recurrent network over (x, a, r) inside actor and critic, trained by reward alone.

Like RL² (Duan et al. 2016; Humplik et al. 2019, agent A, "baseline"). Our choice: actor and critic
share one core, which halves the cost of the recurrent part; `separate_cores` gives each its own
(as Ni et al. 2022 advise).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.agents import _history
from taskbelief.networks import cores, functional
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Carry,
    EnvSpec,
    Features,
    Key,
    Label,
    Metrics,
    Params,
)


@dataclass(frozen=True)
class Config(_history.Config):
    separate_cores: bool = False
    """whether actor and critic have a recurrent core each"""


class _Network(nnx.Module):
    def __init__(self, spec: EnvSpec, config: Config, *, rngs: nnx.Rngs):
        num = 2 if config.separate_cores else 1
        self.histories = nnx.List(_history.History(spec, config, rngs=rngs) for _ in range(num))

    def __call__(
        self, carry: Carry, x: Array, reset: Array, key: Key | None
    ) -> tuple[Carry, list[Array], Array]:
        """Returns (carry of each core, memories [T, B, memory_size], their penalty [T, B])."""
        num = len(self.histories)
        keys = [None] * num if key is None else jax.random.split(key, num)
        parts = zip(self.histories, carry, keys, strict=True)
        made = [history(one, x, reset, key) for history, one, key in parts]
        carries, memories, penalties = zip(*made, strict=True)
        return carries, list(memories), sum(penalties, jnp.zeros(x.shape[:2]))


def make(problem: Problem, config: Config = Config()) -> Agent:
    """Returns the agent for `problem`; it does not use the label."""
    return for_spec(problem.spec, config)


def for_spec(spec: EnvSpec, config: Config) -> Agent:
    """Returns the agent for environments of this `spec`."""
    network = functional(lambda rngs: _Network(spec, config, rngs=rngs))

    def initial_carry(batch: int) -> Carry:
        one = cores.CORES[config.core].initial(batch, config.hidden)
        return (one, one) if config.separate_cores else (one,)

    def unroll(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Features]:
        x = _history.read(spec, inputs)
        carry, memories, penalty = network.apply(params, carry, x, inputs.task_start, key)
        actor, critic = (jnp.concatenate([memories[place], x], axis=-1) for place in (0, -1))
        return carry, Features(actor, critic, memories[0], penalty)

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        del params, label
        return jnp.zeros(()), _history.bottleneck_metrics(config, features)

    stochastic = config.bottleneck_beta > 0
    return Agent(
        network.init, initial_carry, unroll, aux_loss, stochastic=stochastic, needs=config.needs
    )
