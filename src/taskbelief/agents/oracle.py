"""The upper reference: the baseline's network, on observations that contain the label.

With `condition="embedding"` it observes the index of the training task, and learns a vector for
each: the task embeddings F^w that other agents can then learn to infer (Humplik et al. 2019).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from taskbelief.agents import baseline
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Carry,
    Categories,
    Features,
    Key,
    Label,
    Metrics,
    Needs,
    Params,
)


@dataclass(frozen=True)
class Config(baseline.Config):
    condition: str = "label"
    """information about the task: label (h), or embedding (a learned vector per training task)"""
    embedding_size: int = 8
    """length of the learned vectors"""

    @property
    def needs(self) -> Needs:
        only = "task_index" if self.condition == "embedding" else ""
        return Needs(label=True, only_label=only, revealed=True)


def make(problem: Problem, config: Config = Config()) -> Agent:
    """Returns the oracle for `problem` with its label revealed.

    Raises:
      ValueError: the label cannot be revealed, or is not `task_index` with `condition="embedding"`.
    """
    spec, label = problem.revealed().spec, problem.label.spec
    if config.condition == "label":
        return baseline.for_spec(spec, config)
    if config.condition != "embedding":
        raise ValueError(f"condition {config.condition!r}: choose from label, embedding")
    if not isinstance(label, Categories) or label.places != 1 or label.coordinates:
        raise ValueError("condition embedding needs the label task_index")
    bare = spec.obs_dim - label.classes  # the index is at the end, a one-hot code
    agent = baseline.for_spec(replace(spec, obs_dim=bare + config.embedding_size), config)

    def init(key: Key) -> Params:
        table_key, agent_key = jax.random.split(key)
        table = jax.random.normal(table_key, (label.classes, config.embedding_size))
        return {"table": table, "agent": agent.init(agent_key)}

    def unroll(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Features]:
        x, index = inputs.obs[..., :bare], inputs.obs[..., bare:]
        obs = jnp.concatenate([x, index @ params["table"]], axis=-1)
        return agent.unroll(params["agent"], carry, inputs._replace(obs=obs), key)

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        return agent.aux_loss(params["agent"], features, label)

    table = operator.itemgetter("table")
    return agent._replace(init=init, unroll=unroll, aux_loss=aux_loss, table=table)
