"""Feed-forward parts."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx

from taskbelief.types import Array


class MLP(nnx.Module):
    """Linear layers with ReLU between them; the last layer is linear."""

    def __init__(self, sizes: Sequence[int], *, rngs: nnx.Rngs, last_scale: float = 1.0):
        """`sizes` from input to output; `last_scale` shrinks the initial last layer."""
        scales = [2.0] * (len(sizes) - 2) + [last_scale]
        self.layers = nnx.List(
            nnx.Linear(
                a,
                b,
                kernel_init=nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal"),
                rngs=rngs,
            )
            for a, b, scale in zip(sizes[:-1], sizes[1:], scales, strict=True)
        )

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)
