"""The upper reference: the baseline's network, on observations that contain the task.

With `condition="embedding"` it is told which training task it is in, and learns a vector for
each: the task embeddings F^w that others can then learn to infer (Humplik et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from taskbelief.agents import baseline
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Categories,
    Core,
    EnvSpec,
    Features,
    Key,
    Label,
    LabelSpec,
    Metrics,
    Params,
)

REVEALED = True  # observations end with the label
USES_LABEL = True


@dataclass(frozen=True)
class Config(baseline.Config):
    condition: str = "label"
    """what it is told: label (h), or embedding (a learned vector per training task)"""
    embedding_size: int = 8
    """length of the learned vectors"""


def make(spec: EnvSpec, label: LabelSpec, config: Config = Config()) -> Agent:
    """The oracle for a revealed environment like `spec` and labels of the family `label`."""
    if config.condition == "label":
        return baseline.make(spec, label, config)
    if config.condition != "embedding":
        raise ValueError(f"condition {config.condition!r}: choose from label, embedding")
    if not isinstance(label, Categories) or label.places != 1 or label.coordinates:
        raise ValueError("condition embedding needs the label task_index")
    bare = spec.obs_dim - label.classes  # the index is at the end, a one-hot code
    agent = baseline.make(replace(spec, obs_dim=bare + config.embedding_size), label, config)

    def init(key: Key) -> Params:
        table_key, agent_key = jax.random.split(key)
        table = jax.random.normal(table_key, (label.classes, config.embedding_size))
        return {"table": table, "agent": agent.init(agent_key)}

    def unroll(
        params: Params, core: Core, inputs: AgentInput, key: Key | None
    ) -> tuple[Core, Features]:
        x, index = inputs.obs[..., :bare], inputs.obs[..., bare:]
        told = jnp.concatenate([x, index @ params["table"]], axis=-1)
        return agent.unroll(params["agent"], core, inputs._replace(obs=told), key)

    def aux_loss(params: Params, features: Features, label: Label) -> tuple[Array, Metrics]:
        return agent.aux_loss(params["agent"], features, label)

    return agent._replace(init=init, unroll=unroll, aux_loss=aux_loss)
