"""Tests that two processes on loopback give the results of one."""

import socket

import jax
import numpy as np
import pytest

from experiments import command, evaluate, run
from tests.experiments import tiny

UPDATES = 20
TOLERANCE = 1e-5  # for parameters of order 1; sums of two halves are rounded differently


def test_two_processes_train_as_one(tmp_path):
    flags = ("--train.shards", "2")
    alone, together = tmp_path / "alone", tmp_path / "together"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        tiny.start(
            *tiny.arguments(together, *flags, "--distributed", "True", iterations=UPDATES),
            *("--coordinator", f"localhost:{port}", "--processes", "2", "--process", str(process)),
        )
        for process in (0, 1)
    ]
    run.main(tiny.arguments(alone, *flags, iterations=UPDATES))
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "Done in" in said[0] and "Done in" not in said[1]  # only process 0 prints
    params = [evaluate.load(path)[0].params for path in (alone, together)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=TOLERANCE), *params)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--coordinator", "localhost:1"], "go with --distributed True"),
        (["--distributed", "True", "--process", "0"], "all three, or none of them"),
    ],
)
def test_flags_that_make_no_sense(flags, why, capsys):
    with pytest.raises(SystemExit) as end:
        command.join(flags)
    assert end.value.code == 2
    assert why in capsys.readouterr().err


def test_a_directory_for_all(capsys):
    with pytest.raises(SystemExit) as end:
        command.parse([*tiny.NAMES, "--distributed", "True"])
    assert end.value.code == 2
    assert "a directory that all processes can see" in capsys.readouterr().err
