"""Rows carry their own id through the ring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import replay
from taskbelief.types import AgentInput, Label, Trajectory

STEPS = 4


def rows(ids) -> Trajectory:
    """Meta-episodes whose every entry is their id."""
    ids = jnp.asarray(ids, jnp.float32)
    fill = lambda steps: jnp.broadcast_to(ids, (steps, len(ids)))  # noqa: E731
    one, more = fill(STEPS), fill(STEPS + 1)
    inputs = AgentInput(more[..., None], more, more, more > 0, more > 0, more)
    return Trajectory(inputs, one, one, one, one > 0, one > 0, one > 0, Label(one))


def test_ids_through_wrap_around():
    memory = replay.init(6, jax.eval_shape(lambda: rows([0, 0])))
    add = jax.jit(replay.add, donate_argnums=0)
    for first in range(1, 11, 2):  # ids 1 ... 10 into six rows
        memory = add(memory, rows([first, first + 1]))
        assert int(memory.size) == min(first + 1, 6)
    np.testing.assert_array_equal(memory.rows.reward[0, :, 0], [7, 8, 9, 10, 5, 6])
    batch = replay.sample(memory, jax.random.key(0), 200)
    ids = batch.reward[0]
    assert set(np.unique(ids)) == {5, 6, 7, 8, 9, 10}
    for leaf in (batch.reward, batch.action, batch.inputs.obs[..., 0], batch.label.h):
        assert jnp.all(leaf == ids)  # a row stays together, over time and over fields


def test_only_filled_rows_are_sampled():
    memory = replay.init(8, jax.eval_shape(lambda: rows([0, 0])))
    memory = replay.add(memory, rows([1, 2]))
    assert jnp.all(replay.sample(memory, jax.random.key(0), 64).reward > 0)


def test_capacity_must_be_a_multiple_of_what_is_added():
    memory = replay.init(5, jax.eval_shape(lambda: rows([0, 0])))
    with pytest.raises(ValueError, match="multiple"):
        replay.add(memory, rows([1, 2]))
