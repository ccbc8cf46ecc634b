"""Networks: Flax NNX modules as pure functions (`functional`), and feed-forward layers (`MLP`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.types import Array, Key, Params


class Network(NamedTuple):
    """A module as two pure functions."""

    init: Callable[[Key], Params]  # the key is consumed
    apply: Callable[..., Any]  # (params, *args, method="__call__")


def functional(build: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """Returns the module that `build` makes, split once into structure and parameters."""
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(params=jax.random.key(0))))
    structure = nnx.graphdef(abstract)

    def init(key: Key) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key)), nnx.Param))

    def apply(params: Params, *args: Any, method: str = "__call__") -> Any:
        state = nnx.state(abstract, nnx.Param)
        nnx.replace_by_pure_dict(state, params)
        return getattr(nnx.merge(structure, state), method)(*args)

    return Network(init, apply)


def centred(layer: nnx.Linear, x: Array) -> Array:
    """Returns the output of `layer` minus its mean over units, [..., D].

    The mean is subtracted from the weights, which are fewer than the outputs.
    """
    kernel = layer.kernel[...] - jnp.mean(layer.kernel[...], axis=-1, keepdims=True)
    y = x @ kernel
    return y if layer.bias is None else y + (layer.bias[...] - jnp.mean(layer.bias[...]))


def normalised_relu(x: Array) -> Array:
    """Applies ReLU after layer normalisation without scale or offset (Ba et al. 2016); x [..., D]
    has mean 0 over its last axis, see `centred`."""
    return jax.nn.relu(x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6))


class MLP(nnx.Module):
    """Linear layers with ReLU between them; the last layer is linear."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        rngs: nnx.Rngs,
        last_scale: float = 1.0,
        normalised: bool = False,
    ):
        """`sizes` from input to output; `last_scale` scales the initial last layer;
        `normalised`: layer normalisation before each ReLU."""
        self.normalised = normalised
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
            x = normalised_relu(centred(layer, x)) if self.normalised else jax.nn.relu(layer(x))
        return self.layers[-1](x)
