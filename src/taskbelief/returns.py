"""Returns and their targets, batched over meta-episodes; the recursions are rlax's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import rlax

from taskbelief.types import Array


def discounts(gamma: float, terminated: Array, task_end: Array, *, beyond: bool) -> Array:
    """The discount on what follows each step, [T, B].

    Episode ends inside a task do not cut the return: the task goes on, and what was
    learnt about it pays in the next episode. The end of the task is where time ran out, not
    a state that ends it: with `beyond` the value of the state reached stands for what
    would have followed; without, the return ends with the task. A step that both
    terminated and ended the task has nothing beyond it.

    Args:
      gamma: discount per step.
      terminated, task_end: [T, B] bool.
      beyond: bootstrap from the state reached when time runs out.
    """
    over = task_end & terminated if beyond else task_end
    return gamma * (1.0 - over)


def lambda_returns(value: Array, reward: Array, discount: Array, *, lambda_: float) -> Array:
    """Targets for V(x_t), [T, B]: values plus generalised advantages (Schulman et al. 2016).

    Args:
      value: [T + 1, B]; reward, discount: [T, B].
      lambda_: decay of the traces.
    """
    per_stream = jax.vmap(rlax.lambda_returns, in_axes=(1, 1, 1, None), out_axes=1)
    return jax.lax.stop_gradient(per_stream(reward, discount, value[1:], lambda_))


def retrace(
    q: Array,
    value_next: Array,
    reward: Array,
    discount: Array,
    log_ratio: Array,
    *,
    lambda_: float,
) -> Array:
    """Retrace targets for Q(x_t, a_t), [T, B] (Munos et al. 2016, eq. 4 with eq. 9's c).

      G_t = r_t + d_t [V_{t+1} + c_{t+1} (G_{t+1} - Q_{t+1})],  c = lambda min(1, pi / mu)

    Args:
      q: [T, B], Q(x_t, a_t) of the target network.
      value_next: [T, B], V(x_{t+1}) = E_{a ~ pi} Q(x_{t+1}, a) of the target network.
      reward, discount: [T, B].
      log_ratio: [T, B], log pi(a_t | x_t) - log mu(a_t | x_t).
      lambda_: decay of the traces.
    """
    trace = lambda_ * jnp.minimum(1.0, jnp.exp(log_ratio))
    per_stream = jax.vmap(rlax.general_off_policy_returns_from_q_and_v, in_axes=1, out_axes=1)
    targets = per_stream(q[1:], value_next, reward, discount, trace[1:])
    return jax.lax.stop_gradient(targets)
