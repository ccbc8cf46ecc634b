"""Recurrent cores of agents.

A core is a module with `initial(batch, hidden)`, its zero carry, and `core(carry, x, reset)`
-> (carry, y), where x is [T, B, D], `reset` [T, B] bool zeroes the carry before a step, and y
is [T, B, H].
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.types import Array, Carry


class RecurrentCore(Protocol):
    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs): ...

    @staticmethod
    def initial(batch: int, hidden: int) -> Carry: ...

    def __call__(self, carry: Carry, x: Array, reset: Array) -> tuple[Carry, Array]: ...


# ---- gated cores ------------------------------------------------------------------
#
# Their speed comes from these choices (measured with benchmarks.kernels): the products with the
# input of all steps come before the scan, the weight gradients of all steps after it; one tanh
# computes all gates, with the halves of sigmoid(x) = tanh(x / 2) / 2 + 1 / 2 folded into the
# weights; and one buffer holds the inputs of each step, its gates and, in the backward pass, their
# gradients, because the first write to new RAM costs as much as a product.


def _half(tanh: Array) -> Array:
    """Returns the logistic function of x, from tanh(x / 2)."""
    return 0.5 * tanh + 0.5


def _projection_gradients(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array, Array]:
    """Returns the gradients by x, kernel and bias."""
    return grad @ kernel.T, _outer(x, grad), jnp.sum(grad, axis=(0, 1))


def _outer(x: Array, grad: Array) -> Array:
    """Sums the outer products over time and batch: [T, B, D] and [T, B, G] -> [D, G].

    Time and batch stay separate axes, so that each device sums over its own meta-episodes, and in
    this order, because XLA copies both otherwise. The narrower array, which XLA transposes, comes
    first.
    """
    return jax.lax.dot_general(x, grad, (((0, 1), (0, 1)), ((), ())))


def _shifted(first: Array, rest: Array, keep: Array) -> Array:
    """Returns the carry before each step: [B, H] and [T, B, H] -> [T, B, H]."""
    return jnp.concatenate([first[None], rest[:-1]]) * keep


def _row(buffer: Array, step: Array) -> Array:
    """Returns the row of `step`; of step 0 for a negative one."""
    return jax.lax.dynamic_index_in_dim(buffer, step, keepdims=False, allow_negative_indices=False)


def _with_row(buffer: Array, row: Array, step: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(buffer, row, step, 0, allow_negative_indices=False)


# ---- LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)


class LSTM(nnx.Module):
    """Gates start with time scales of 1 to `steps` steps (chrono initialisation, Tallec & Ollivier
    2018): with the usual forget bias of 1, the first step is forgotten after ten. Carry: (h, c),
    each [B, H].
    """

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        orthogonal = nnx.initializers.orthogonal()
        gates_key, time_key = jax.random.split(rngs.params())
        # time scales of up to `steps`, spread evenly (chrono initialisation)
        remember = jnp.log(jax.random.uniform(time_key, (hidden,), minval=1.0, maxval=steps))
        zeros = jnp.zeros(hidden)
        bias = jnp.concatenate([-remember, remember, zeros, zeros])
        self.input = nnx.Linear(in_features, 4 * hidden, bias_init=lambda *_: bias, rngs=rngs)
        keys = jax.random.split(gates_key, 4)
        self.recurrent = nnx.Param(
            jnp.concatenate([orthogonal(key, (hidden, hidden), jnp.float32) for key in keys], 1)
        )

    @staticmethod
    def initial(batch: int, hidden: int) -> Carry:
        return jnp.zeros((batch, hidden)), jnp.zeros((batch, hidden))

    def __call__(self, carry: Carry, x: Array, reset: Array) -> tuple[Carry, Array]:
        assert self.input.bias is not None
        keep = 1.0 - reset[..., None].astype(x.dtype)
        one = jnp.ones(self.hidden)
        scale = jnp.concatenate([0.5 * one, 0.5 * one, one, 0.5 * one])  # i, f, new, o
        weights = (self.input.kernel[...], self.input.bias[...], self.recurrent[...])
        hs, c = _lstm(x, keep, *carry, *(weight * scale for weight in weights))
        return (hs[-1], c), hs


@jax.custom_vjp
def _lstm(x: Array, keep: Array, h: Array, c: Array, kernel: Array, bias: Array, recurrent: Array):
    """[T, B, D], [T, B, 1], [B, H], [B, H], [D, 4H], [4H], [H, 4H] -> h after each step,
    [T, B, H], and the last c, [B, H]."""
    return _lstm_forward(x, keep, h, c, kernel, bias, recurrent)[0]


def _lstm_forward(
    x: Array, keep: Array, h0: Array, c0: Array, kernel: Array, bias: Array, recurrent: Array
):
    def step(carry: tuple[Array, Array, Array], xs: tuple[Array, Array]):
        h, c, gates = carry
        keep, t = xs
        row = jnp.tanh(_row(gates, t) + (h * keep) @ recurrent + bias)
        i, f, new, o = jnp.split(row, 4, axis=-1)
        c = _half(f) * (c * keep) + _half(i) * new
        h = _half(o) * jnp.tanh(c)
        return (h, c, _with_row(gates, row, t)), (h, c)

    start = (h0, c0, x @ kernel)
    (_, c, gates), (hs, cs) = jax.lax.scan(step, start, (keep, jnp.arange(len(x))))
    return (hs, c), (x, keep, h0, c0, kernel, recurrent, hs, cs, gates)


def _lstm_backward(saved: Any, grads: tuple[Array, Array]):
    x, keep, h0, c0, kernel, recurrent, hs, cs, gates = saved
    dhs, dc_last = grads
    back = recurrent.T

    def step(carry: tuple[Array, Array, Array, Array], xs: Any):
        dh, dc, row, buffer = carry
        dh_out, keep, c, c_before, t = xs
        i, f, new, o = jnp.split(row, 4, axis=-1)
        tanh_c = jnp.tanh(c)
        dh = dh + dh_out
        dc = dc + dh * _half(o) * (1.0 - tanh_c * tanh_c)
        parts = [dc * (0.5 * new), dc * (0.5 * c_before), dc * _half(i), dh * (0.5 * tanh_c)]
        drow = jnp.concatenate(parts, axis=-1) * (1.0 - row * row)
        # The next gates are read after these gradients are written; otherwise XLA copies the
        # buffer.
        buffer = _with_row(buffer, drow, t)
        return ((drow @ back) * keep, dc * _half(f) * keep, _row(buffer, t - 1), buffer), None

    xs = (dhs, keep, cs, _shifted(c0, cs, keep), jnp.arange(len(x)))
    start = (jnp.zeros_like(h0), dc_last, gates[-1], gates)
    (dh, dc, _, dgates), _ = jax.lax.scan(step, start, xs, reverse=True)
    dx, dkernel, dbias = _projection_gradients(x, kernel, dgates)
    drecurrent = _outer(_shifted(h0, hs, keep), dgates)
    return dx, jnp.zeros_like(keep), dh, dc, dkernel, dbias, drecurrent


_lstm.defvjp(_lstm_forward, _lstm_backward)


# ---- GRU (Cho et al. 2014), in the form whose reset gate follows the product


class GRU(nnx.Module):
    """Carry: h, [B, H]. Fewer products than the LSTM."""

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        self.input = nnx.Linear(in_features, 3 * hidden, rngs=rngs)
        self.recurrent = nnx.Linear(hidden, 3 * hidden, rngs=rngs)

    @staticmethod
    def initial(batch: int, hidden: int) -> Carry:
        return jnp.zeros((batch, hidden))

    def __call__(self, carry: Carry, x: Array, reset: Array) -> tuple[Carry, Array]:
        assert self.input.bias is not None and self.recurrent.bias is not None
        keep = 1.0 - reset[..., None].astype(x.dtype)
        one = jnp.ones(self.hidden)
        scale = jnp.concatenate([0.5 * one, 0.5 * one, one])  # reset, update, new
        weights = (
            self.input.kernel[...],
            self.input.bias[...],
            self.recurrent.kernel[...],
            self.recurrent.bias[...],
        )
        hs = _gru(x, keep, carry, *(weight * scale for weight in weights))
        return hs[-1], hs


@jax.custom_vjp
def _gru(
    x: Array, keep: Array, h: Array, kernel: Array, bias: Array, recurrent: Array, shift: Array
) -> Array:
    """[T, B, D], [T, B, 1], [B, H], [D, 3H], [3H], [H, 3H], [3H] ->
    h after each step, [T, B, H]."""
    return _gru_forward(x, keep, h, kernel, bias, recurrent, shift)[0]


def _gru_forward(
    x: Array, keep: Array, h0: Array, kernel: Array, bias: Array, recurrent: Array, shift: Array
):
    hidden = h0.shape[-1]

    def step(carry: tuple[Array, Array], xs: tuple[Array, Array]):
        h, gates = carry
        keep, t = xs
        h = h * keep
        row, product = _row(gates, t) + bias, h @ recurrent + shift
        both = jnp.tanh(row[:, : 2 * hidden] + product[:, : 2 * hidden])
        r, z = jnp.split(both, 2, axis=-1)
        kept = product[:, 2 * hidden :]
        new = jnp.tanh(row[:, 2 * hidden :] + _half(r) * kept)
        h = new + _half(z) * (h - new)
        row = jnp.concatenate([both, new], axis=-1)
        return (h, _with_row(gates, row, t)), (h, kept)

    start = (h0, x @ kernel)
    (_, gates), (hs, kept) = jax.lax.scan(step, start, (keep, jnp.arange(len(x))))
    return hs, (x, keep, h0, kernel, recurrent, hs, kept, gates)


def _gru_backward(saved: Any, dhs: Array):
    x, keep, h0, kernel, recurrent, hs, kept, gates = saved
    hidden = h0.shape[-1]
    back = recurrent.T

    def step(carry: tuple[Array, Array, Array], xs: Any):
        dh, row, buffer = carry
        dh_out, keep, h_before, kept, t = xs
        r, z, new = jnp.split(row, 3, axis=-1)
        dh = dh + dh_out
        dnew = dh * (0.5 - 0.5 * z) * (1.0 - new * new)
        parts = [dnew * (0.5 * kept), dh * (0.5 * (h_before - new))]
        both = jnp.concatenate(parts, axis=-1) * (1.0 - row[:, : 2 * hidden] ** 2)
        dkept = dnew * _half(r)
        buffer = _with_row(buffer, jnp.concatenate([both, dnew], axis=-1), t)
        dh = (jnp.concatenate([both, dkept], axis=-1) @ back + dh * _half(z)) * keep
        return (dh, _row(buffer, t - 1), buffer), dkept

    h_before = _shifted(h0, hs, keep)
    xs = (dhs, keep, h_before, kept, jnp.arange(len(x)))
    start = (jnp.zeros_like(h0), gates[-1], gates)
    (dh, _, dgates), dkept = jax.lax.scan(step, start, xs, reverse=True)
    dx, dkernel, dbias = _projection_gradients(x, kernel, dgates)
    dproduct = jnp.concatenate([dgates[..., : 2 * hidden], dkept], axis=-1)
    drecurrent = _outer(h_before, dproduct)
    dshift = jnp.sum(dproduct, axis=(0, 1))
    return dx, jnp.zeros_like(keep), dh, dkernel, dbias, drecurrent, dshift


_gru.defvjp(_gru_forward, _gru_backward)


# ---- linear recurrences -----------------------------------------------------------


def _linear_recurrence(decay: Array, drive: Array, h: Array) -> Array:
    """h_t = decay_t * h_(t-1) + drive_t for all t: [T, B, H], [T, B, H], [B, H] -> [T, B, H].

    Step by step on a CPU, where a step is cheap and RAM is slow; elsewhere as an associative
    scan, of depth log T.
    """
    return jax.lax.platform_dependent(decay, drive, h, cpu=_step_by_step, default=_at_once)


def _step_by_step(decay: Array, drive: Array, h: Array) -> Array:
    def step(h: Array, xs: tuple[Array, Array]) -> tuple[Array, Array]:
        decay, drive = xs
        h = decay * h + drive
        return h, h

    return jax.lax.scan(step, h, (decay, drive))[1]


def _at_once(decay: Array, drive: Array, h: Array) -> Array:
    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    drive = drive.at[0].add(decay[0] * h)
    return jax.lax.associative_scan(then, (decay, drive))[1]


class MinGRU(nnx.Module):
    """minGRU (Feng et al. 2024): the GRU whose gate does not read its own past.

    h_t = (1 - z_t) h_(t-1) + z_t tanh(g(x_t)), a linear recurrence over time. Gates start
    with time scales of 1 to `steps` steps, like the LSTM's. Carry: h, [B, H].
    """

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        times = jax.random.uniform(rngs.params(), (hidden,), minval=1.0, maxval=steps)
        bias = jnp.concatenate([-jnp.log(times), jnp.zeros(hidden)])
        self.input = nnx.Linear(in_features, 2 * hidden, bias_init=lambda *_: bias, rngs=rngs)

    @staticmethod
    def initial(batch: int, hidden: int) -> Carry:
        return jnp.zeros((batch, hidden))

    def __call__(self, carry: Carry, x: Array, reset: Array) -> tuple[Carry, Array]:
        assert self.input.bias is not None
        keep = 1.0 - reset[..., None].astype(x.dtype)
        one = jnp.ones(self.hidden)
        scale = jnp.concatenate([0.5 * one, one])  # update, new
        hs = _mingru(x, keep, carry, self.input.kernel[...] * scale, self.input.bias[...] * scale)
        return hs[-1], hs


@jax.custom_vjp
def _mingru(x: Array, keep: Array, h: Array, kernel: Array, bias: Array) -> Array:
    """[T, B, D], [T, B, 1], [B, H], [D, 2H], [2H] -> h after each step, [T, B, H]."""
    return _mingru_forward(x, keep, h, kernel, bias)[0]


def _mingru_forward(x: Array, keep: Array, h0: Array, kernel: Array, bias: Array):
    def step_by_step(gates: Array, keep: Array, h0: Array) -> Array:
        def step(h: Array, xs: tuple[Array, Array]) -> tuple[Array, Array]:
            z, new = jnp.split(xs[0], 2, axis=-1)
            h = h * xs[1]
            h = h + _half(z) * (new - h)
            return h, h

        return jax.lax.scan(step, h0, (gates, keep))[1]

    def at_once(gates: Array, keep: Array, h0: Array) -> Array:
        z, new = jnp.split(gates, 2, axis=-1)
        return _at_once(keep * (1.0 - _half(z)), _half(z) * new, h0)

    gates = jnp.tanh(x @ kernel + bias)
    hs = jax.lax.platform_dependent(gates, keep, h0, cpu=step_by_step, default=at_once)
    return hs, (x, keep, h0, kernel, gates, hs)


def _mingru_backward(saved: Any, dhs: Array):
    """The gradients by h are a linear recurrence too, from the last step to the first."""
    x, keep, h0, kernel, gates, hs = saved

    def by_gates(dh: Array, row: Array, h_before: Array) -> Array:
        z, new = jnp.split(row, 2, axis=-1)
        parts = [dh * (0.5 * (new - h_before)), dh * _half(z)]
        return jnp.concatenate(parts, axis=-1) * (1.0 - row * row)

    def step_by_step(gates: Array, h_before: Array) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array, Array], xs: Any):
            dh, row, buffer = carry
            dh_out, keep, h_before, t = xs
            dh = dh + dh_out
            # The next row is read after this one is written; otherwise XLA copies the buffer.
            buffer = _with_row(buffer, by_gates(dh, row, h_before), t)
            dh = dh * (1.0 - _half(row[:, : dh.shape[-1]])) * keep
            return (dh, _row(buffer, t - 1), buffer), None

        xs = (dhs, keep, h_before, jnp.arange(len(x)))
        start = (jnp.zeros_like(h0), gates[-1], gates)
        dh0, _, dgates = jax.lax.scan(step, start, xs, reverse=True)[0]
        return dh0, dgates

    def at_once(gates: Array, h_before: Array) -> tuple[Array, Array]:
        decay = keep * (1.0 - _half(gates[..., : h0.shape[-1]]))
        later = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
        dh = _at_once(later[::-1], dhs[::-1], jnp.zeros_like(h0))[::-1]
        return dh[0] * decay[0], by_gates(dh, gates, h_before)

    h_before = _shifted(h0, hs, keep)
    dh0, dgates = jax.lax.platform_dependent(gates, h_before, cpu=step_by_step, default=at_once)
    dx, dkernel, dbias = _projection_gradients(x, kernel, dgates)
    return dx, jnp.zeros_like(keep), dh0, dkernel, dbias


_mingru.defvjp(_mingru_forward, _mingru_backward)


class LRU(nnx.Module):
    """Linear recurrent unit (Orvieto et al. 2023): a diagonal complex recurrence.

    h_t = lambda * h_(t-1) + gamma * B x_t, y_t = C [Re h_t, Im h_t] + D x_t. Moduli start
    with time scales of 1 to `steps` steps. Carry: h, complex [B, H].
    """

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        time_key, phase_key = jax.random.split(rngs.params())
        times = jax.random.uniform(time_key, (hidden,), minval=1.0, maxval=steps)
        phases = jax.random.uniform(phase_key, (hidden,), minval=1e-2, maxval=jnp.pi / 10)
        # lambda = exp(-exp(nu) + i exp(theta)), stable for all parameters
        self.nu = nnx.Param(-jnp.log(times))
        self.theta = nnx.Param(jnp.log(phases))
        self.input = nnx.Linear(in_features, 2 * hidden, rngs=rngs)
        self.output = nnx.Linear(2 * hidden, hidden, rngs=rngs)
        self.skip = nnx.Linear(in_features, hidden, use_bias=False, rngs=rngs)

    @staticmethod
    def initial(batch: int, hidden: int) -> Carry:
        return jnp.zeros((batch, hidden), jnp.complex64)

    def __call__(self, carry: Carry, x: Array, reset: Array) -> tuple[Carry, Array]:
        rate = jnp.exp(self.nu[...])
        eigenvalue = jnp.exp(jax.lax.complex(-rate, jnp.exp(self.theta[...])))
        # keeps the variance of the input, for all time scales
        scale = jnp.sqrt(1.0 - jnp.exp(-2.0 * rate))
        real, imaginary = jnp.split(self.input(x), 2, axis=-1)
        drive = jax.lax.complex(scale * real, scale * imaginary)
        decay = jnp.where(reset[..., None], 0.0, eigenvalue)
        hs = _linear_recurrence(decay, drive, carry)
        y = self.output(jnp.concatenate([hs.real, hs.imag], axis=-1)) + self.skip(x)
        return hs[-1], jax.nn.gelu(y)


CORES: dict[str, type[RecurrentCore]] = {"lstm": LSTM, "gru": GRU, "mingru": MinGRU, "lru": LRU}
