"""Actions as environments play them, whatever a policy from outside hands over."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from taskbelief.types import ActionSpec, Array, Continuous


def checked(action: Array, spec: ActionSpec) -> Array:
    """`action` as an array.

    Raises:
      ValueError: while tracing, of a shape other than [num] or [], or an arm that is not a whole
        number.
    """
    action = jnp.asarray(action)
    shape = (spec.num,) if isinstance(spec, Continuous) else ()
    if action.shape != shape:
        raise ValueError(
            f"an action of shape {list(action.shape)}: must be {list(shape)} (vmap for batches)"
        )
    if not isinstance(spec, Continuous) and not jnp.issubdtype(action.dtype, jnp.integer):
        raise ValueError(f"an action of type {action.dtype}: must be a whole number")
    if jnp.issubdtype(action.dtype, jnp.complexfloating):
        raise ValueError(f"an action of type {action.dtype}: must be real")
    return action


def legal(action: Array, spec: ActionSpec) -> Array:
    """The action that is played: [num] float32 in [-1, 1], or [] int32 in 0 ... num - 1.

    What lies outside is clipped, also an arm below 0 or beyond the last one; NaN counts as 0.

    Raises:
      ValueError: see `checked`.
    """
    action = checked(action, spec)
    if isinstance(spec, Continuous):
        action = action.astype(jnp.float32)
        return jnp.where(jnp.isnan(action), 0.0, jnp.clip(action, -1.0, 1.0))
    limits = np.iinfo(action.dtype)
    if limits.max >= spec.num - 1 and limits.min <= 0:
        action = jnp.clip(action, 0, spec.num - 1)
    return action.astype(jnp.int32)
