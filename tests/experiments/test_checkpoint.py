"""Tests of checkpoints: they are restored bit for bit, or refused."""

import dataclasses
import resource
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.runs import Failed, checkpoint, config, parts


class State(NamedTuple):
    params: dict
    key: jax.Array
    step: jax.Array


def state(number: int) -> State:
    key = jax.random.key(number)
    params = {"w": jax.random.normal(key, (3, 4)), "mask": jnp.array([True, False])}
    return State(params, key, jnp.asarray(number, jnp.int32))


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints 10 and 20."""
    for number in (10, 20):
        checkpoint.save(tmp_path, number, state(number), {"iteration": number}, keep=2)
    return tmp_path


def load(run) -> checkpoint.Checkpoint | None:
    return checkpoint.newest_good(run, jax.eval_shape(lambda: state(0)))


def same(one, other) -> bool:
    def bits(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()

    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        a.dtype == b.dtype and bits(a) == bits(b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_comes_back_bit_for_bit(run):
    found = load(run)
    assert found is not None
    assert same(found.state, state(20))
    assert found.about == {"iteration": 20}


def test_pearl_goes_on_bit_for_bit_from_what_comes_back(tmp_path):
    """The second iteration has the same result from a checkpoint as without one."""
    chosen = config.default("sparse_navigation", "pearl", "sac", "cpu")
    sizes = {"envs": 2, "updates": 2, "batch": 2, "warmup": 1, "replay_rows": 300}
    small = {
        "env": {"episode_steps": 3, "episodes": 2, "test_episodes": 2, "train_tasks": 3},
        "agent": {"encoder": 4, "context": 4, "prior_episodes": 1},
        "learner": {"actor_hidden": 4, "critic_hidden": 4, "transitions": 2},
        "train": sizes,
    }
    groups = {
        group: dataclasses.replace(getattr(chosen, group), **fields)
        for group, fields in small.items()
    }
    made = parts.build(dataclasses.replace(chosen, **groups)).trainer
    step = jax.jit(made.step)
    first, _ = step(jax.jit(made.init)(jax.random.key(0)))
    checkpoint.save(tmp_path, 1, first, {}, keep=1)
    found = checkpoint.newest_good(tmp_path, jax.eval_shape(lambda: first))
    assert same(step(found.state), step(first))
    assert not same(step(first)[0].learner.params, first.learner.params)


def test_keeps_the_newest(run):
    checkpoint.save(run, 100, state(100), {}, keep=2)
    assert [path.name for path in checkpoint.checkpoints(run)] == ["100", "20"]


def test_none(tmp_path):
    assert load(tmp_path) is None


def largest_file(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def truncate(folder):
    path = largest_file(folder / "state")
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder):
    path = largest_file(folder / "state")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "truncated": truncate,
    "a flipped bit": flip,
    "a file deleted": lambda folder: largest_file(folder / "state").unlink(),
    "manifest deleted": lambda folder: (folder / "manifest.json").unlink(),
    "manifest cut short": lambda folder: (folder / "manifest.json").write_text('{"about.js'),
    "counters changed": lambda folder: (folder / "about.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_one_is_skipped_with_a_warning(run, damage):
    damage(run / "checkpoints" / "20")
    with pytest.warns(UserWarning, match=f"checkpoint {run}/checkpoints/20 is damaged"):
        found = load(run)
    assert found is not None
    assert same(found.state, state(10))


def test_a_part_comes_back_alone(run):
    like = jax.eval_shape(lambda: state(0).params)
    found = checkpoint.newest_good(run, like, within="params.")
    assert found is not None and same(found.state, state(20).params)
    with pytest.raises(Failed, match="does not fit this version"):
        checkpoint.newest_good(run, {"v": like["w"]}, within="params.")


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_all_damaged(run):
    for number in ("10", "20"):
        truncate(run / "checkpoints" / number)
    with pytest.raises(Failed, match="no good checkpoint"):
        load(run)


def test_half_written_one_is_not_seen(run):
    half = run / "checkpoints" / ".writing-30"
    (run / "checkpoints" / "20").rename(half)
    found = load(run)
    assert found is not None
    assert found.path.name == "10"
    checkpoint.save(run, 20, state(20), {}, keep=2)
    assert not half.exists()


def test_full_disk_leaves_the_others(run):
    """A limit on file sizes simulates a full disk: both fail in write(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {"w": jax.random.normal(jax.random.key(0), (1000, 1000))}
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="writing a checkpoint failed"):
            checkpoint.save(run, 30, big, {}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in checkpoint.checkpoints(run)] == ["20", "10"]
    found = load(run)
    assert found is not None
    assert same(found.state, state(20))
