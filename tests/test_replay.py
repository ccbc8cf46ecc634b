"""Tests of the replay, with rows that contain their number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import replay
from taskbelief.types import AgentInput, Label, Trajectory

STEPS = 4


def rows(ids) -> Trajectory:
    """Returns meta-episodes in which every entry is their id."""
    ids = jnp.asarray(ids, jnp.float32)
    fill = lambda steps: jnp.broadcast_to(ids, (steps, len(ids)))  # noqa: E731
    one, more = fill(STEPS), fill(STEPS + 1)
    inputs = AgentInput(more[..., None], more, more, more > 0, more > 0, more)
    return Trajectory(inputs, one, one, one, one > 0, one > 0, one > 0, Label(one))


def test_ids_through_wrap_around():
    buffer = replay.init(6, jax.eval_shape(lambda: rows([0, 0])))
    add = jax.jit(replay.add, donate_argnums=0)
    for first in range(1, 11, 2):  # ids 1 ... 10 into six rows
        buffer = add(buffer, rows([first, first + 1]))
        assert int(buffer.size) == min(first + 1, 6)
    np.testing.assert_array_equal(buffer.rows.reward[0, :, 0], [7, 8, 9, 10, 5, 6])
    batch = replay.sample(buffer, jax.random.key(0), 200)
    ids = batch.reward[0]
    assert set(np.unique(ids)) == {5, 6, 7, 8, 9, 10}
    for leaf in (batch.reward, batch.action, batch.inputs.obs[..., 0], batch.label.h):
        assert jnp.all(leaf == ids)  # a row stays together, over time and over fields


def test_only_filled_rows_are_sampled():
    buffer = replay.init(8, jax.eval_shape(lambda: rows([0, 0])))
    buffer = replay.add(buffer, rows([1, 2]))
    assert jnp.all(replay.sample(buffer, jax.random.key(0), 64).reward > 0)


def test_capacity_must_be_a_multiple_of_what_is_added():
    buffer = replay.init(5, jax.eval_shape(lambda: rows([0, 0])))
    with pytest.raises(ValueError, match="multiple"):
        replay.add(buffer, rows([1, 2]))


def draws(ids, num):
    """Fills two rings with `ids`, two at a time; returns (buffer, ids of `num` sampled rows)."""
    buffer = replay.init(8, jax.eval_shape(lambda: rows([0, 0])), rings=2)
    for pair in np.reshape(ids, (-1, 2)):
        buffer = replay.add(buffer, rows(pair))
    return buffer, np.asarray(replay.sample(buffer, jax.random.key(0), num).reward[0])


def test_rings_share_what_comes_in_and_what_goes_out():
    buffer, drawn = draws([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 400)
    # the first id of each pair is in ring 0; the fifth pair overwrites the first
    np.testing.assert_array_equal(buffer.rows.reward[:, :, 0], [[9, 3, 5, 7], [10, 4, 6, 8]])
    assert int(buffer.size) == 4
    halves = drawn[:200], drawn[200:]
    for half, ids in zip(halves, ([3, 5, 7, 9], [4, 6, 8, 10]), strict=True):
        found, counts = np.unique(half, return_counts=True)
        assert found.tolist() == ids
        # each of 200 draws is one of four with equal probability; within four deviations
        np.testing.assert_array_less(np.abs(counts - 50), 4 * np.sqrt(200 * 3 / 16))


def test_rings_are_sampled_independently():
    _, drawn = draws([1, 2, 3, 4, 5, 6, 7, 8], 400)
    same = np.sum(drawn[:200] + 1 == drawn[200:])  # the same place in both: one case in four
    assert abs(same - 50) < 4 * np.sqrt(200 * 3 / 16)


@pytest.mark.parametrize("size", ["capacity", "added", "drawn"])
def test_sizes_are_multiples_of_the_rings(size):
    example = jax.eval_shape(lambda: rows([0, 0]))
    with pytest.raises(ValueError, match="multiple of the 2 rings"):
        buffer = replay.init(7 if size == "capacity" else 8, example, rings=2)
        buffer = replay.add(buffer, rows([1, 2, 3, 4][: 3 if size == "added" else 4]))
        replay.sample(buffer, jax.random.key(0), 5)
