"""Information bottleneck: a penalty on the information in a memory, in nats.

The deep variational bottleneck (Alemi et al. 2017) on top of a recurrent core, as in Humplik
et al. 2019: z ~ N(mu(m), sigma(m)), with the penalty KL(z | m || N(0, I)).
"""

from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.types import Array, Key

# Deviations start near 0.3, with little noise and penalty, so that learning starts as without.
_RAW_STD = -1.0


class Bottleneck(nnx.Module):
    """The map memory [..., H] -> (z [..., Z], KL [...] in nats)."""

    def __init__(self, in_features: int, size: int, *, rngs: nnx.Rngs):
        self.encode = nnx.Linear(in_features, 2 * size, rngs=rngs)

    def __call__(self, memory: Array, key: Key | None) -> tuple[Array, Array]:
        """Draws z with `key`; `key` None gives the mean (evaluation)."""
        mean, raw = jnp.split(self.encode(memory), 2, axis=-1)
        code = distrax.Normal(mean, jax.nn.softplus(raw + _RAW_STD))
        kl = jnp.sum(code.kl_divergence(distrax.Normal(0.0, 1.0)), axis=-1)
        return (mean if key is None else code.sample(seed=key)), kl
