"""A ball that rolls on a square floor: force, friction, walls (shared by environments)."""

from __future__ import annotations

import jax.numpy as jnp

from taskbelief.types import Array


def roll(
    position: Array, velocity: Array, force: Array, *, friction: float, wall: float
) -> tuple[Array, Array]:
    """Advances a unit mass by one substep: v' = (1 - friction) v + force, x' = x + v'.

    Args:
      position, velocity, force: [2], in lengths, lengths per substep, and per substep².
      friction: share of the velocity lost in a substep.
      wall: the floor is [-wall, wall]²; a ball that meets a wall stops on that axis.

    Returns:
      (position', velocity'), each [2].
    """
    velocity = (1.0 - friction) * velocity + force
    free = position + velocity
    position = jnp.clip(free, -wall, wall)
    return position, jnp.where(position == free, velocity, 0.0)


def force_to_reach(
    displacement: Array, velocity: Array, *, friction: float, substeps: int
) -> Array:
    """Returns the constant force, [2], that displaces a free ball by `displacement` in
    `substeps`."""
    keep = 1.0 - friction
    carried = sum(keep ** (i + 1) for i in range(substeps))
    pushed = sum(keep**j for i in range(substeps) for j in range(i + 1))
    return (displacement - carried * velocity) / pushed
