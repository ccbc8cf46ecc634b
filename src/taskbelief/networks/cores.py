"""Recurrent cores: the memory of an agent.

A core is a module with `initial(batch, hidden)`, its zero carry, and `core(carry, x, reset)`
-> (carry, y), where x is [T, B, D], `reset` [T, B] bool zeroes the carry before a step, and y
is [T, B, H].
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from taskbelief.types import Array, Core


class RecurrentCore(Protocol):
    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs): ...

    @staticmethod
    def initial(batch: int, hidden: int) -> Core: ...

    def __call__(self, carry: Core, x: Array, reset: Array) -> tuple[Core, Array]: ...


def _sigmoid(x: Array) -> Array:
    """By tanh, which XLA evaluates several times faster on a CPU than the logistic function."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


# ---- LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000) ----------


class LSTM(nnx.Module):
    """The input product is hoisted out of the scan; its backward pass likewise.

    Gates start with memories of 1 to `steps` steps (chrono initialisation, Tallec & Ollivier
    2018): with the customary forget bias of 1, what was seen at the first step is gone
    after ten. Carry: (h, c), each [B, H].
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
    def initial(batch: int, hidden: int) -> Core:
        return jnp.zeros((batch, hidden)), jnp.zeros((batch, hidden))

    def __call__(self, carry: Core, x: Array, reset: Array) -> tuple[Core, Array]:
        keep = 1.0 - reset[..., None].astype(x.dtype)
        hs, cs = _lstm(self.input(x), keep, *carry, self.recurrent[...])
        return (hs[-1], cs[-1]), hs


@jax.custom_vjp
def _lstm(projected: Array, keep: Array, h: Array, c: Array, recurrent: Array):
    """[T, B, 4H], [T, B, 1], [B, H], [B, H], [H, 4H] -> h and c after each step, [T, B, H]."""
    return _lstm_forward(projected, keep, h, c, recurrent)[0]


def _lstm_forward(projected: Array, keep: Array, h: Array, c: Array, recurrent: Array):
    def step(carry: tuple[Array, Array], xs: tuple[Array, Array]):
        h, c = carry
        projected, keep = xs
        h, c = h * keep, c * keep
        i, f, g, o = jnp.split(projected + h @ recurrent, 4, axis=-1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), jnp.tanh(g), _sigmoid(o)
        c = f * c + i * g
        h = o * jnp.tanh(c)
        return (h, c), (h, c, i, f, g, o)

    _, (hs, cs, i, f, g, o) = jax.lax.scan(step, (h, c), (projected, keep))
    return (hs, cs), (keep, h, c, recurrent, hs, cs, i, f, g, o)


def _lstm_backward(saved: Any, grads: tuple[Array, Array]):
    keep, h0, c0, recurrent, hs, cs, i, f, g, o = saved
    c_before = jnp.concatenate([c0[None], cs[:-1]]) * keep
    h_before = jnp.concatenate([h0[None], hs[:-1]]) * keep

    def step(carry: tuple[Array, Array], xs: Any):
        dh, dc = carry
        dh_out, dc_out, keep, c, c_before, i, f, g, o = xs
        dh, dc = dh + dh_out, dc + dc_out
        tanh_c = jnp.tanh(c)
        dc = dc + dh * o * (1.0 - tanh_c * tanh_c)
        dgates = jnp.concatenate(
            [
                dc * g * i * (1.0 - i),
                dc * c_before * f * (1.0 - f),
                dc * i * (1.0 - g * g),
                dh * tanh_c * o * (1.0 - o),
            ],
            axis=-1,
        )
        dh = (dgates @ recurrent.T) * keep
        return (dh, dc * f * keep), dgates

    zeros = jnp.zeros_like(h0), jnp.zeros_like(c0)
    xs = (*grads, keep, cs, c_before, i, f, g, o)
    (dh, dc), dgates = jax.lax.scan(step, zeros, xs, reverse=True)
    # the weight gradient of all steps as one product; time and batch stay apart, so that
    # each device sums over its own meta-episodes
    weights = jnp.einsum("tbh,tbg->hg", h_before, dgates)
    return dgates, jnp.zeros_like(keep), dh, dc, weights


_lstm.defvjp(_lstm_forward, _lstm_backward)


# ---- GRU (Cho et al. 2014) --------------------------------------------------------


class GRU(nnx.Module):
    """Carry: h, [B, H]. Fewer products than the LSTM; differentiated by JAX."""

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        self.input = nnx.Linear(in_features, 3 * hidden, rngs=rngs)
        self.recurrent = nnx.Linear(hidden, 3 * hidden, rngs=rngs)

    @staticmethod
    def initial(batch: int, hidden: int) -> Core:
        return jnp.zeros((batch, hidden))

    def __call__(self, carry: Core, x: Array, reset: Array) -> tuple[Core, Array]:
        def step(h: Array, xs: tuple[Array, Array]) -> tuple[Array, Array]:
            projected, reset = xs
            h = jnp.where(reset[:, None], 0.0, h)
            xr, xz, xn = jnp.split(projected, 3, axis=-1)
            hr, hz, hn = jnp.split(h @ kernel + bias, 3, axis=-1)
            r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
            h = (1.0 - z) * jnp.tanh(xn + r * hn) + z * h
            return h, h

        assert self.recurrent.bias is not None
        kernel, bias = self.recurrent.kernel[...], self.recurrent.bias[...]
        return jax.lax.scan(step, carry, (self.input(x), reset))


# ---- linear recurrences -----------------------------------------------------------


def _linear_recurrence(decay: Array, drive: Array, h: Array) -> Array:
    """h_t = decay_t * h_(t-1) + drive_t for all t: [T, B, H], [T, B, H], [B, H] -> [T, B, H].

    Step by step on a CPU, where a step is cheap and memory is dear; elsewhere as an associative
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

    h_t = (1 - z_t) h_(t-1) + z_t g(x_t), so that time is a linear recurrence. Gates start with
    memories of 1 to `steps` steps, as the LSTM's do. Carry: h, [B, H].
    """

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        times = jax.random.uniform(rngs.params(), (hidden,), minval=1.0, maxval=steps)
        bias = jnp.concatenate([-jnp.log(times), jnp.zeros(hidden)])
        self.input = nnx.Linear(in_features, 2 * hidden, bias_init=lambda *_: bias, rngs=rngs)

    @staticmethod
    def initial(batch: int, hidden: int) -> Core:
        return jnp.zeros((batch, hidden))

    def __call__(self, carry: Core, x: Array, reset: Array) -> tuple[Core, Array]:
        gate, new = jnp.split(self.input(x), 2, axis=-1)
        z = _sigmoid(gate)
        decay = jnp.where(reset[..., None], 0.0, 1.0 - z)
        hs = _linear_recurrence(decay, z * jnp.tanh(new), carry)
        return hs[-1], hs


class LRU(nnx.Module):
    """Linear recurrent unit (Orvieto et al. 2023): a diagonal complex recurrence.

    h_t = lambda * h_(t-1) + gamma * B x_t, y_t = C [Re h_t, Im h_t] + D x_t. Moduli start with
    memories of 1 to `steps` steps. Carry: h, complex [B, H].
    """

    def __init__(self, in_features: int, hidden: int, steps: int, *, rngs: nnx.Rngs):
        self.hidden = hidden
        time_key, phase_key = jax.random.split(rngs.params())
        times = jax.random.uniform(time_key, (hidden,), minval=1.0, maxval=steps)
        phases = jax.random.uniform(phase_key, (hidden,), minval=1e-2, maxval=jnp.pi / 10)
        # lambda = exp(-exp(nu) + i exp(theta)): stable whatever is learnt
        self.nu = nnx.Param(-jnp.log(times))
        self.theta = nnx.Param(jnp.log(phases))
        self.input = nnx.Linear(in_features, 2 * hidden, rngs=rngs)
        self.output = nnx.Linear(2 * hidden, hidden, rngs=rngs)
        self.skip = nnx.Linear(in_features, hidden, use_bias=False, rngs=rngs)

    @staticmethod
    def initial(batch: int, hidden: int) -> Core:
        return jnp.zeros((batch, hidden), jnp.complex64)

    def __call__(self, carry: Core, x: Array, reset: Array) -> tuple[Core, Array]:
        rate = jnp.exp(self.nu[...])
        eigenvalue = jnp.exp(jax.lax.complex(-rate, jnp.exp(self.theta[...])))
        # of variance as its input's, whatever the memory
        scale = jnp.sqrt(1.0 - jnp.exp(-2.0 * rate))
        real, imaginary = jnp.split(self.input(x), 2, axis=-1)
        drive = jax.lax.complex(scale * real, scale * imaginary)
        decay = jnp.where(reset[..., None], 0.0, eigenvalue)
        hs = _linear_recurrence(decay, drive, carry)
        y = self.output(jnp.concatenate([hs.real, hs.imag], axis=-1)) + self.skip(x)
        return hs[-1], jax.nn.gelu(y)


CORES: dict[str, type[RecurrentCore]] = {"lstm": LSTM, "gru": GRU, "mingru": MinGRU, "lru": LRU}
