"""A run's directory: created with a record of the run, and locked during training."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

import taskbelief
from experiments import stop
from experiments.command import Options
from taskbelief.runs import config, hosts
from taskbelief.runs.config import RunConfig


def create(chosen: RunConfig, options: Options, args: Sequence[str]) -> Path:
    """Creates the run's directory with its config.json, in process 0; the others wait."""
    names = f"{chosen.env_name.replace(':', '.')}-{chosen.agent_name}-{chosen.learner_name}"
    run = options.out or Path("runs", f"{names}-s{chosen.seed}-{time.strftime('%Y%m%d-%H%M%S')}")
    if not hosts.first():
        hosts.wait("created")
        return run
    versions = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    record = {
        "config": config.to_json(chosen),
        "command": shlex.join(["python", "-m", "experiments.run", *args]),
        "versions": {"taskbelief": taskbelief.__version__, **{n: _version(n) for n in versions}},
        "python": platform.python_version(),
        "device": f"{jax.devices()[0].device_kind} x {jax.device_count()} ({platform.machine()})",
        "git_commit": _git_commit(),
    }
    try:
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            stop.wrong_usage(f"--out {run} exists and is not empty; --resume {run} continues a run")
        run.mkdir(parents=True, exist_ok=True)
        new = run / "config.json.new"
        new.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(new, run / "config.json")
    except OSError as error:
        stop.wrong_usage(f"cannot write --out {run}: {error.strerror}")
    hosts.wait("created")
    return run


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Returns the commit of this checkout, with "+changes" where files differ from it."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes"],
            cwd=here, capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() or None


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Locks the run; ends the program if another process trains it."""
    if not hosts.first():
        yield
        return
    with (run / "config.json").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stop.wrong_usage(f"{run} is being trained by another process")
        yield
