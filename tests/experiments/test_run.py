"""Tests whole runs: the files they write, and that interruptions change nothing."""

import csv
import json
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

import taskbelief
from experiments import assembly, command, evaluate, folder, footprint, placement, run, score
from tests.experiments import tiny
from tests.experiments.tiny import ITERATIONS


def train(out: Path, *more: str) -> Path:
    run.main(tiny.arguments(out, *more))
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def without_clocks(path: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in rows(path)
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run without interruptions."""
    return train(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def detailed(tmp_path_factory) -> Path:
    """The same run, with twice as many rows of metrics."""
    return train(tmp_path_factory.mktemp("runs") / "detailed", "--rows", "20")


@pytest.fixture(scope="module")
def second(tmp_path_factory) -> Path:
    """The same run, with another seed."""
    return train(tmp_path_factory.mktemp("runs") / "second", "--seed", "1")


def test_leaves_its_files(finished):
    record = json.loads((finished / "config.json").read_text())
    assert record["config"]["env_name"] == "bandit"
    assert {"config", "command", "versions", "device", "git_commit"} <= set(record)
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    written = rows(finished)
    assert [int(row["iteration"]) for row in written] == list(range(0, ITERATIONS + 1, 4))
    assert [bool(row["eval/holdout/score"]) for row in written] == [i % 5 == 0 for i in range(11)]
    assert all(bool(row["train/critic_loss"]) for row in written[1:])
    score, low, high = (
        float(written[-1][f"eval/holdout/score{end}"]) for end in ("", "_low", "_high")
    )
    assert low <= score <= high
    quarters = [float(written[-1][f"eval/holdout/return_quarter_{i}"]) for i in (1, 2, 3, 4)]
    assert sum(quarters) == pytest.approx(float(written[-1]["eval/holdout/return"]), rel=1e-4)


@pytest.mark.parametrize(
    ("counts", "rows", "evaluated"),
    [
        ((10, 5, 2), [0, 2, 4, 5, 6, 8, 10], {0, 5, 10}),
        ((10, 3, 0), [0, 3, 7, 10], {10}),  # only at the end; that before training is always made
        ((2, 100, 40), [0, 1, 2], {0, 1, 2}),
    ],
)
def test_rows_and_evaluations_are_spread_over_the_run(counts, rows, evaluated):
    found = run.schedule(*counts)
    assert (found[0].tolist(), found[1]) == (rows, evaluated)


def test_a_row_is_the_mean_of_its_own_iterations(finished, detailed):
    """In the same run with twice as many rows, two rows have the mean of one."""
    ten, twenty = rows(finished), rows(detailed)
    assert [int(row["iteration"]) for row in twenty] == list(range(0, ITERATIONS + 1, 2))
    done = [int(row["iteration"]) for row in twenty]
    steps = [0, *((number + 1) * tiny.ITERATION for number in done[1:])]  # with the warm-up
    assert [int(row["env_steps"]) for row in twenty] == steps
    for name in ("train/return", "train/q", "train/entropy"):
        halves = np.array([float(row[name]) for row in twenty[1:]]).reshape(10, 2)
        found = [float(row[name]) for row in ten[1:]]
        np.testing.assert_allclose(halves.mean(axis=1), found, rtol=2e-5)
        assert np.abs(halves[:, 0] / halves[:, 1] - 1).max() > 1e-4


def test_the_state_counts_the_steps_of_the_table(finished):
    """The loop counts iterations, the compiled state counts what it has played."""
    counted = {
        int(tiny.saved(finished)[name]) for name in tiny.saved(finished) if "env_steps" in name
    }
    assert counted == {int(rows(finished)[-1]["env_steps"])}


def test_tensorboard_has_the_names_and_values_of_the_csv(finished):
    (path,) = finished.glob("events.out.tfevents.*")
    seen = {}
    data, at = path.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size  # the length, its checksum, the event, its checksum
        for value in event.summary.value:
            seen[value.tag, event.step] = value.simple_value
    expected = {
        (name, int(row["env_steps"])): float(value)
        for row in rows(finished)
        for name, value in row.items()
        if value
    }
    assert seen.keys() == expected.keys()
    assert seen == pytest.approx(expected, rel=1e-5)
    assert {name for name, _ in seen} == set(rows(finished)[0])


def test_evaluate_repeats_the_last_evaluation(finished, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evaluate", str(finished), "--json"])
    evaluate.main()
    found = json.loads(capsys.readouterr().out)
    last = rows(finished)[-1]
    for name in last:
        if name.startswith("eval/"):
            assert found[name] == pytest.approx(float(last[name]), rel=1e-5)
    assert len(found["params_sha256"]) == 64
    assert found["iteration"] == ITERATIONS


def test_a_run_can_be_loaded_from_python(finished):
    loaded = taskbelief.load(finished)
    saved = tiny.saved(finished)
    for path, leaf in jax.tree.flatten_with_path(loaded.params)[0]:
        name = ".".join(["0.learner.params", *(str(key.key) for key in path)])
        np.testing.assert_array_equal(leaf, saved[name])
    with pytest.raises(ValueError, match="has no seed 7"):
        taskbelief.load(finished, seed=7)


def test_the_score_of_a_run_is_its_last_evaluation(finished, tmp_path, capsys):
    last = {name: float(value) for name, value in rows(finished)[-1].items() if value}
    found = taskbelief.score(taskbelief.load(finished)).metrics()
    del found["calibration_error"]
    assert {"score", "score_low", "label_nll"} <= set(found)
    for name, value in found.items():
        assert value == pytest.approx(last[f"eval/holdout/{name}"], rel=1e-5)
    score.main([str(finished), "--cache", "off", "--out", str(tmp_path)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "aux_head, svg0 on bandit, 20 hold-out tasks"
    assert float(printed[2].split()[1]) == pytest.approx(last["eval/holdout/score"], abs=1e-3)
    (picture,) = tmp_path.iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in printed


def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path):
    """A run is killed, the next process continues and is told to end, and a third finishes it."""
    out = tmp_path / "run"
    kept = ("--checkpoint_minutes", "0")
    _interrupt(tiny.start(*tiny.arguments(out, *kept)), out, signal.SIGKILL)
    said = _interrupt(tiny.start("--resume", str(out), *kept), out, signal.SIGTERM)
    assert f"--resume {out} continues" in said
    run.main(["--resume", str(out)])
    assert tiny.same(out, finished)
    assert without_clocks(out) == without_clocks(finished)


def _interrupt(process: subprocess.Popen, out: Path, number: int) -> str:
    """Interrupts a run some time after its next checkpoint, and returns what it said."""

    def newest() -> int:
        return max((int(path.name) for path in out.glob("checkpoints/[0-9]*")), default=0)

    before = newest()
    while process.poll() is None and newest() <= before:
        time.sleep(0.05)
    time.sleep(random.uniform(0.0, 0.1))
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == (128 + number if number == signal.SIGTERM else -number), said
    return said


def test_seeds(finished, detailed, second):
    assert tiny.same(finished, detailed) and not tiny.same(finished, second)


def test_seeds_side_by_side_are_each_as_alone(finished, second, tmp_path):
    """They match single runs to float tolerance, on one device and on one device each; interrupted
    and resumed, they match to the bit."""
    apart = tmp_path / "apart"
    process = tiny.start(*tiny.arguments(apart, "--num-seeds", "2"), devices=2)
    together = train(tmp_path / "together", "--num-seeds", "2", "--checkpoint_minutes", "0")
    said, _ = process.communicate()
    assert process.returncode == 0, said
    for seed, single in (("0", finished), ("1", second)):
        alone = without_clocks(single)
        for several in (together, apart):
            own = [row for row in without_clocks(several) if row["seed"] == seed]
            for one, other in zip(own, alone, strict=True):
                assert one.keys() == other.keys()
                for name, value in one.items():
                    if value or other[name]:
                        assert float(value) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-4)
            assert list((several / f"seed-{seed}").glob("events*"))

    last = tiny.saved(together)
    metrics = without_clocks(together)
    shutil.rmtree(together / "checkpoints" / str(tiny.ITERATIONS))
    run.main(["--resume", str(together)])
    resumed = tiny.saved(together)
    assert last.keys() == resumed.keys()
    assert all(last[name].tobytes() == resumed[name].tobytes() for name in last)
    assert without_clocks(together) == metrics
    for number, found in enumerate(evaluate.evaluate(together)):
        logged = [row for row in metrics if row["seed"] == str(number)][-1]
        wanted = float(logged["eval/holdout/score"])
        assert found["eval/holdout/score"] == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_resuming_a_finished_run_changes_nothing(finished, capsys):
    before = (finished / "metrics.csv").read_bytes()
    run.main(["--resume", str(finished)])
    assert "Done" in capsys.readouterr().out
    assert (finished / "metrics.csv").read_bytes() == before


def test_full_disk_ends_the_run_with_one_line(finished, tmp_path, capsys):
    """A limit on file sizes simulates a full disk: both fail in write(2). The programs are those of
    `finished`, because a compilation could not be cached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(SystemExit) as end:
            train(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: writing a checkpoint failed: ")
    assert line.endswith(f"(writing {tmp_path / 'run'}; --resume {tmp_path / 'run'} continues)")


def test_refuses_to_write_into_a_full_directory(tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(SystemExit) as end:
        train(tmp_path)
    assert end.value.code == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_says_where_it_cannot_write(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        train(tmp_path / "file" / "run")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: cannot write --out {tmp_path}/file/run")


def test_one_process_trains_a_run(finished, capsys):
    with folder.locked(finished), pytest.raises(SystemExit) as end:
        run.main(["--resume", str(finished)])
    assert end.value.code == 2
    assert "is being trained by another process" in capsys.readouterr().err


def test_replay_sized_in_bytes(tmp_path, capsys):
    """310 KB are enough for 16 meta-episodes, which is the usual size of these tests."""
    chosen, _ = command.parse(tiny.arguments(tmp_path / "run", "--replay-memory", "310KB"))
    parts = assembly.assemble(chosen)
    assert parts.trainer.sizes == command.parse(tiny.arguments(tmp_path / "run"))[0].train
    said = footprint.check(parts.placed.needs, jax.devices())
    assert said.startswith("Each device will hold: replay 309 KB, parameters")
    for size, why in (
        ("1KB", "the 4 meta-episodes of one iteration take"),
        ("100TB", "free; take a smaller --replay-memory"),
        ("plenty", "a number of bytes, as 500MB or 2GB"),
    ):
        with pytest.raises(SystemExit) as end:
            train(tmp_path / size, "--replay-memory", size)
        assert end.value.code == 2
        assert why in capsys.readouterr().err
        assert not (tmp_path / size).exists()


@pytest.fixture(scope="module")
def several():
    """The parts of a run, its iterations compiled, and the input (state, sums) as shapes."""
    chosen, _ = command.parse(tiny.arguments(Path("unused")))
    parts = assembly.assemble(chosen)
    state, sums = placement.checkpointed(parts.placed, parts.where)
    step = jax.jit(placement.iterate(parts.placed.step), donate_argnums=(0, 1))
    number = jax.ShapeDtypeStruct((), "int32")
    return parts, step.lower(state, sums, number, number).compile(), (state, sums)


def test_state_is_donated(several):
    """The compiled step reuses the buffers of state and replay, without a second copy."""
    _, compiled, (state, _) = several
    assert compiled.memory_analysis().alias_size_in_bytes >= footprint.size(state)


def test_the_first_of_several_iterations_has_the_warm_up(several):
    """By hand: three iterations, the first of which collects twice."""
    parts, compiled, (_, sums) = several
    sums = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), sums)
    state = parts.placed.init(parts.placed.seeds)
    state, _, _ = compiled(state, sums, np.int32(3), np.int32(2))
    assert state.env_steps == 4 * tiny.ITERATION


def test_not_a_number_stops_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        train(tmp_path / "run", "--learner.learning_rate", "1e30")
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert "is not finite at step" in said
    assert "there is no checkpoint yet" in said
    assert not list(tmp_path.glob("run/checkpoints/*"))
