"""Tests runs that end after a few iterations, without XLA's optimisations (see conftest.py)."""

import jax
import pytest

from experiments import assembly, command, footprint, placement
from tests.experiments import tiny
from tests.experiments.test_run import train


def test_replay_sized_in_bytes(tmp_path, capsys):
    train(tmp_path / "run", 2, "--replay-memory", "100KB")
    said = capsys.readouterr().out
    assert "Each device will hold: replay 93.8 KB, parameters" in said
    for size, why in (
        ("1KB", "the 4 meta-episodes of one iteration take"),
        ("100TB", "free; take a smaller --replay-memory"),
        ("plenty", "a number of bytes, as 500MB or 2GB"),
    ):
        with pytest.raises(SystemExit) as end:
            train(tmp_path / size, 2, "--replay-memory", size)
        assert end.value.code == 2
        assert why in capsys.readouterr().err
        assert not (tmp_path / size).exists()


def test_state_is_donated(tmp_path):
    """The compiled step reuses the buffers of state and replay, without a second copy."""
    chosen, _ = command.parse(tiny.arguments(tmp_path, 2))
    parts = assembly.assemble(chosen)
    state, sums = placement.checkpointed(parts.placed, parts.where)
    step = jax.jit(placement.iterate(parts.placed.step), donate_argnums=(0, 1))
    used = step.lower(state, sums, jax.ShapeDtypeStruct((), "int32")).compile().memory_analysis()
    assert used.alias_size_in_bytes >= footprint.size(state)


def test_not_a_number_stops_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        train(tmp_path / "run", 20, "--learner.learning_rate", "1e30")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "is not finite at step" in said
    assert "there is no checkpoint yet" in said
    assert not list(tmp_path.glob("run/checkpoints/*"))
