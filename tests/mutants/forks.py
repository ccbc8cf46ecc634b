"""A process that imports the modules of all tests, and forks itself for each fault.

Imports take most of the time of a single test. The parent runs them once; each child then imports
the faulty code, which the parent never imports, and runs pytest. JAX's threads would not survive
a fork: nothing may compute before it, and the parent fails if JAX has been started.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# none of them imports this project's code
HEAVY = (
    "scipy.stats", "jax", "jax.scipy.special", "flax.nnx", "optax", "distrax", "rlax",
    "orbax.checkpoint", "tyro", "rich.progress", "matplotlib.pyplot", "brax.envs", "pytest",
)  # fmt: skip


class Parent:
    """Runs pytest in children of a process that has imported `modules`."""

    def __init__(self, environment: dict[str, str], modules: Sequence[str]):
        self._process = subprocess.Popen(
            # -P: not from the current folder, whose packages have the names of the copy's
            [sys.executable, "-P", __file__, *modules],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the process ends when its input does
        self._process.wait()

    def pytest(
        self, tree: Path, options: Sequence[str], seconds: float | None = None
    ) -> tuple[int | None, str]:
        """Returns exit status and output of pytest in `tree`; the status is None after a timeout.

        Raises:
          RuntimeError: the parent process has ended.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        wanted = {"tree": str(tree), "options": list(options), "seconds": seconds}
        try:
            process.stdin.write(json.dumps(wanted) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that forks has ended")
        found = json.loads(answer)
        return found["status"], found["output"]


# ---- in the parent ----------------------------------------------------------------


def _serve(modules: Sequence[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the original stdout carries only answers
    for module in modules:
        importlib.import_module(module)
    if "jax" in modules:
        from jax._src import xla_bridge

        if xla_bridge.backends_are_initialized():
            raise RuntimeError("an import has started JAX: a fork would not have its threads")
    gc.freeze()  # keep memory shared with the children
    for line in iter(sys.stdin.readline, ""):
        wanted = json.loads(line)
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            status = _forked(wanted, output)
            output.seek(0)
            answers.write(json.dumps({"status": status, "output": output.read()}) + "\n")
        answers.flush()


def _forked(wanted: dict[str, Any], output: Any) -> int | None:
    child = os.fork()
    if child == 0:
        status = 3  # pytest's own for an internal error
        try:
            status = _child(wanted, output.fileno())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = None if wanted["seconds"] is None else time.monotonic() + wanted["seconds"]
    pause = 0.01
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)  # with its subprocesses
            os.waitpid(child, 0)
            return None
        time.sleep(pause)
        pause = min(0.1, 1.5 * pause)


def _child(wanted: dict[str, Any], output: int) -> int:
    os.setsid()
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    tree = wanted["tree"]
    os.chdir(tree)
    paths = [os.path.join(tree, "src"), tree]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for subprocesses of tests
    sys.path[:0] = paths
    sys.argv = ["pytest"]
    import pytest

    return int(pytest.main(wanted["options"]))


if __name__ == "__main__":
    _serve(sys.argv[1:])
