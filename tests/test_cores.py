"""Tests of recurrent cores: steps, resets and gradients against the plain definitions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from taskbelief.networks import cores, functional

# Cores lay out their arithmetic for the optimised program.
pytestmark = pytest.mark.optimised

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
    # every parameter is shifted from its initial value, so that none is zero
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
    """Returns a weighted sum of all outputs and the last carry."""
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
        jax.jit(jax.grad(functools.partial(_loss, way), argnums=(0, 1, 2)))(
            params, carry, x, reset, weight
        )
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
    """Compares values and gradients: CPUs use the first form, accelerators the second."""
    keys = jax.random.split(jax.random.key(0), 4)
    decay = jax.random.uniform(keys[0], (9, 2, 3)).at[4, 1].set(0.0)
    drive, weight = jax.random.normal(keys[1], (2, 9, 2, 3))
    h = jax.random.normal(keys[2], (2, 3))
    found = [
        jax.jit(
            jax.value_and_grad(lambda *args: jnp.sum(weight * way(*args)), argnums=(0, 1, 2))  # noqa: B023
        )(decay, drive, h)
        for way in (cores._step_by_step, cores._at_once)
    ]
    _close(*found, rtol=1e-4, atol=1e-5)


# ---- how long an untrained core remembers --------------------------------------------

UNITS, LONGEST = 256, 100


def untrained(core):
    """Returns (apply, parameters) of a core for `LONGEST` steps, without recurrent weights."""
    network = functional(lambda rngs: cores.CORES[core](1, UNITS, LONGEST, rngs=rngs))
    params = network.init(jax.random.key(0))
    if "recurrent" in params:
        params["recurrent"] = jnp.zeros_like(params["recurrent"])
    return jax.jit(network.apply), params


def kept(core, steps=4):
    """Returns the share of each unit's state that remains after one step without input."""
    apply, params = untrained(core)
    ones = jax.tree.map(jnp.ones_like, cores.CORES[core].initial(1, UNITS))
    carry, _ = apply(params, ones, jnp.zeros((steps, 1, 1)), jnp.zeros((steps, 1), bool))
    left = carry[1] if core == "lstm" else carry
    return np.abs(np.asarray(left)[0]) ** (1 / steps)


@pytest.mark.parametrize("core", ["lstm", "mingru", "lru"])
def test_an_untrained_core_remembers_for_up_to_the_whole_task(core):
    """Time constants u are uniform from 1 to `LONGEST`: a gate keeps u / (1 + u) of the state; the
    modulus of the LRU is exp(-1 / u)."""
    share = kept(core)
    time = -1 / np.log(share) if core == "lru" else share / (1 - share)
    assert stats.kstest(time, stats.uniform(1, LONGEST - 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("core", ["lstm", "mingru"])
def test_an_untrained_gate_writes_what_it_forgets(core):
    """A unit that keeps u / (1 + u) of the old state adds 1 / (1 + u) of the new input."""
    apply, params = untrained(core)
    width = params["input"]["bias"].shape[0] // UNITS
    new = slice(2 * UNITS, 3 * UNITS) if core == "lstm" else slice(UNITS, 2 * UNITS)
    assert width == (4 if core == "lstm" else 2)
    params["input"]["bias"] = params["input"]["bias"].at[new].set(0.5)
    zero = cores.CORES[core].initial(1, UNITS)
    carry, _ = apply(params, zero, jnp.zeros((1, 1, 1)), jnp.zeros((1, 1), bool))
    written = (carry[1] if core == "lstm" else carry)[0] / np.tanh(0.5)
    np.testing.assert_allclose(written, 1 - kept(core), rtol=1e-3, atol=1e-5)


def test_an_untrained_lru_has_outputs_of_its_inputs_size_whatever_it_remembers():
    """With input noise of variance 1, |h|² converges to 2: 1 each from the real and the imaginary
    part of the input."""
    apply, params = untrained("lru")
    rate = np.exp(np.asarray(params["nu"]))
    x = jnp.ones((1, 1, 1))
    zero = cores.LRU.initial(1, UNITS)
    carry, _ = apply(params, zero, x, jnp.zeros((1, 1), bool))
    kernel, bias = params["input"]["kernel"][0], params["input"]["bias"]
    drive = np.asarray(kernel + bias).reshape(2, UNITS)
    # the sum of squares of gamma * lambda^k over all k is 1
    gain = np.abs(np.asarray(carry)[0]) / np.hypot(*drive)
    np.testing.assert_allclose(gain**2 / (1 - np.exp(-2 * rate)), 1.0, rtol=1e-3)
