"""Tests of feed-forward layers against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from taskbelief import networks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))


def layer(size_in, size_out, bias=True):
    """Returns (a layer with known parameters, its kernel, its bias)."""
    made = nnx.Linear(size_in, size_out, use_bias=bias, rngs=nnx.Rngs(0))
    kernel, shift = RNG.normal(size=(size_in, size_out)), RNG.normal(size=size_out) + 2.0
    made.kernel[...] = jnp.asarray(kernel, jnp.float32)
    if bias:
        made.bias[...] = jnp.asarray(shift, jnp.float32)
    return made, kernel, shift if bias else 0.0


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_centred_has_mean_0_over_units(bias):
    made, kernel, shift = layer(3, 5, bias)
    y = X @ kernel + shift
    found = networks.centred(made, jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(found, y - y.mean(axis=-1, keepdims=True), atol=1e-5)


def test_what_is_normalised_has_deviation_1_and_is_then_cut_at_0():
    """(3, -1, -2) has mean 0 and variance 14 / 3."""
    found = networks.normalised_relu(jnp.array([[3.0, -1.0, -2.0], [-30.0, 10.0, 20.0]]))
    expected = np.array([[3, 0, 0], [0, 1, 2]]) / np.sqrt(14 / 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_a_stack_of_layers(normalised):
    """Each layer but the last has a ReLU, and normalisation before it if `normalised`."""
    made = networks.MLP([3, 6, 5, 2], rngs=nnx.Rngs(0), normalised=normalised)
    y = X
    for place, (a, b) in enumerate(((3, 6), (6, 5), (5, 2))):
        made.layers[place], kernel, shift = layer(a, b)
        y = y @ kernel + shift
        if place < 2 and normalised:
            y = (y - y.mean(axis=-1, keepdims=True)) / y.std(axis=-1, keepdims=True)
        if place < 2:
            y = np.maximum(y, 0.0)
    np.testing.assert_allclose(made(jnp.asarray(X, jnp.float32)), y, rtol=1e-3, atol=1e-3)
