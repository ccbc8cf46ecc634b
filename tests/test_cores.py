"""Every recurrent core: its steps, its resets and its gradients against the plain definition."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from taskbelief.networks import cores, functional

STEPS, BATCH, INPUTS, HIDDEN = 7, 2, 4, 3


# ---- plain definitions: (parameters, carry, x [B, D]) -> (carry, y), one step


def _linear(module, x):
    y = x @ module["kernel"]
    return y + module["bias"] if "bias" in module else y


def _lstm(p, carry, x):
    h, c = carry
    i, f, g, o = jnp.split(_linear(p["input"], x) + h @ p["recurrent"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru(p, h, x):
    xr, xz, xn = jnp.split(_linear(p["input"], x), 3, axis=-1)
    hr, hz, hn = jnp.split(_linear(p["recurrent"], h), 3, axis=-1)
    z = jax.nn.sigmoid(xz + hz)
    h = (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn) + z * h
    return h, h


def _mingru(p, h, x):
    gate, new = jnp.split(_linear(p["input"], x), 2, axis=-1)
    z = jax.nn.sigmoid(gate)
    h = (1 - z) * h + z * jnp.tanh(new)
    return h, h


def _lru(p, h, x):
    rate = jnp.exp(p["nu"])
    real, imaginary = jnp.split(_linear(p["input"], x), 2, axis=-1)
    drive = jnp.sqrt(1 - jnp.exp(-2 * rate)) * (real + 1j * imaginary)
    h = jnp.exp(-rate + 1j * jnp.exp(p["theta"])) * h + drive
    y = _linear(p["output"], jnp.concatenate([h.real, h.imag], -1)) + _linear(p["skip"], x)
    return h, jax.nn.gelu(y)


PLAIN = {"lstm": _lstm, "gru": _gru, "mingru": _mingru, "lru": _lru}


def plainly(core, params, carry, x, reset):
    ys = []
    tree = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [key.key for key in path if hasattr(key, "key")]
        functools.reduce(lambda d, name: d.setdefault(name, {}), names[:-1], tree)[names[-1]] = leaf
    for t in range(len(x)):
        keep = 1.0 - reset[t][:, None].astype(jnp.float32)
        carry = jax.tree.map(lambda leaf: leaf * keep, carry)  # noqa: B023
        carry, y = PLAIN[core](tree, carry, x[t])
        ys.append(y)
    return carry, jnp.stack(ys)


@functools.cache
def example(core):
    kind = cores.CORES[core]
    network = functional(lambda rngs: kind(INPUTS, HIDDEN, STEPS, rngs=rngs))
    keys = jax.random.split(jax.random.key(0), 5)
    # every parameter moved away from where it starts, so that none is zero
    params = jax.tree.map(lambda leaf: leaf + 0.1, network.init(keys[0]))
    x = jax.random.normal(keys[1], (STEPS, BATCH, INPUTS))
    reset = jax.random.uniform(keys[2], (STEPS, BATCH)) < 0.3
    assert reset.any() and not reset.all()
    leaves, tree = jax.tree.flatten(kind.initial(BATCH, HIDDEN))
    carry = tree.unflatten(
        jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(jax.random.split(keys[3], len(leaves)), leaves, strict=True)
    )
    weight = jax.random.normal(keys[4], (STEPS + 1, BATCH, HIDDEN))
    return jax.jit(network.apply), params, carry, x, reset, weight


def _loss(way, params, carry, x, reset, weight):
    """Of every output and of the last carry."""
    carry, ys = way(params, carry, x, reset)
    last = sum(jnp.sum(weight[-1] * (leaf.real + 2 * leaf.imag)) for leaf in jax.tree.leaves(carry))
    return jnp.sum(weight[:-1] * ys) + last


def _close(found, wanted, **tolerances):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerances), found, wanted)


@pytest.mark.parametrize("core", cores.CORES)
def test_a_sequence_is_the_plain_definition_step_by_step(core):
    apply, params, carry, x, reset, _ = example(core)
    found = apply(params, carry, x, reset)
    _close(found, plainly(core, params, carry, x, reset), rtol=1e-4, atol=1e-5)
    ys = []
    for t in range(STEPS):
        carry, y = apply(params, carry, x[t : t + 1], reset[t : t + 1])
        ys.append(y[0])
    _close((carry, jnp.stack(ys)), found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("core", cores.CORES)
def test_a_reset_forgets_all_that_came_before(core):
    apply, params, carry, x, reset, _ = example(core)
    reset = reset.at[3].set(True)
    other = jax.tree.map(lambda leaf: leaf + 1.0, carry)
    found = apply(params, other, x.at[:3].add(1.0), reset)
    wanted = apply(params, carry, x, reset)
    _close((found[0], found[1][3:]), (wanted[0], wanted[1][3:]), rtol=1e-6)
    assert not np.allclose(found[1][:3], wanted[1][:3])


@pytest.mark.parametrize("core", cores.CORES)
def test_gradients_are_those_of_the_plain_definition(core):
    apply, params, carry, x, reset, weight = example(core)

    def plain(*args):
        return plainly(core, *args)

    found, wanted = (
        jax.grad(functools.partial(_loss, way), argnums=(0, 1, 2))(params, carry, x, reset, weight)
        for way in (apply, plain)
    )
    _close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("core", cores.CORES)
def test_gradients_are_differences(core):
    apply, params, carry, x, reset, weight = example(core)

    def loss(params, x):
        return _loss(apply, params, carry, x, reset, weight)

    check_grads(loss, (params, x), order=1, modes=["rev"], eps=1e-2, rtol=2e-2, atol=2e-2)


def test_linear_recurrence_is_the_same_step_by_step_and_at_once():
    """And so are its gradients: a CPU takes the one, accelerators the other."""
    keys = jax.random.split(jax.random.key(0), 4)
    decay = jax.random.uniform(keys[0], (9, 2, 3)).at[4, 1].set(0.0)
    drive, weight = jax.random.normal(keys[1], (2, 9, 2, 3))
    h = jax.random.normal(keys[2], (2, 3))
    found = [
        jax.value_and_grad(lambda *args: jnp.sum(weight * way(*args)), argnums=(0, 1, 2))(  # noqa: B023
            decay, drive, h
        )
        for way in (cores._step_by_step, cores._at_once)
    ]
    _close(*found, rtol=1e-4, atol=1e-5)
