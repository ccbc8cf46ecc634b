"""Flax NNX modules, and `functional`, which splits them once into pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from taskbelief.types import Key, Params


class Network(NamedTuple):
    """A module as two pure functions."""

    init: Callable[[Key], Params]  # the key is consumed
    apply: Callable[..., Any]  # (params, *args, method="__call__")


def functional(build: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """The module that `build` makes, split once into structure and parameters."""
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(params=jax.random.key(0))))
    structure = nnx.graphdef(abstract)

    def init(key: Key) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key)), nnx.Param))

    def apply(params: Params, *args: Any, method: str = "__call__") -> Any:
        state = nnx.state(abstract, nnx.Param)
        nnx.replace_by_pure_dict(state, params)
        return getattr(nnx.merge(structure, state), method)(*args)

    return Network(init, apply)
