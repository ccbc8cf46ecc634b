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
    # the weight gradient of all steps as one product
    flat = h_before.reshape(-1, h_before.shape[-1]), dgates.reshape(-1, dgates.shape[-1])
    return dgates, jnp.zeros_like(keep), dh, dc, flat[0].T @ flat[1]


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


CORES: dict[str, type[RecurrentCore]] = {"lstm": LSTM, "gru": GRU}
