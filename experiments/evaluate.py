"""Evaluates a run again, from its newest good checkpoint.

python -m experiments.evaluate RUN
python -m experiments.evaluate RUN --json      one line for each seed, with params_sha256
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import assembly, command, devices, placement, references, stop
from experiments.assembly import Assembly
from taskbelief import exam
from taskbelief.runs import checkpoint
from taskbelief.runs.checkpoint import Checkpoint
from taskbelief.runs.config import RunConfig
from taskbelief.types import Params, Task, Trajectory


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description="Evaluates a run again, from its newest good checkpoint.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="directory of the run")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each seed")
    parser.add_argument(
        "--cache", type=Path, default=command.Options.cache, help="as in experiments.run"
    )
    arguments = parser.parse_args()
    devices.use_cache(arguments.cache)
    for found in evaluate(arguments.run):
        if arguments.json:
            print(json.dumps(found))
            continue
        width = max(map(len, found))
        for name, value in found.items():
            print(
                f"{name:{width}}  {value:.4f}"
                if isinstance(value, float)
                else f"{name:{width}}  {value}"
            )


class Trained(NamedTuple):
    seed: int
    parts: Assembly  # of this seed alone
    params: Params
    path: Path  # of the checkpoint
    about: dict[str, Any]  # its counters


def load(run: Path) -> list[Trained]:
    """Loads each seed of a run from its newest good checkpoint; ends the program where there is
    none."""
    chosen = command.config_of(run)
    parts = assembly.assemble(chosen)
    with stop.sentences():
        found = checkpoint.newest_good(run, _like(parts), warn=stop.warn)
    if found is None:
        stop.failed(f"{run} has no checkpoint yet")
    return _by_seed(chosen, parts, found)


def load_all(run: Path) -> list[list[Trained]]:
    """Loads each seed from all good checkpoints, oldest first."""
    chosen = command.config_of(run)
    parts = assembly.assemble(chosen)
    with stop.sentences():
        kept = list(checkpoint.good(run, _like(parts), warn=stop.warn))
    found = [_by_seed(chosen, parts, each) for each in kept]
    if not found:
        stop.failed(f"{run} has no good checkpoint")
    return found[::-1]


def _like(parts: Assembly) -> Any:
    return placement.checkpointed(parts.placed, parts.where)


def _by_seed(chosen: RunConfig, parts: Assembly, found: Checkpoint) -> list[Trained]:
    alone = parts
    if len(parts.where.seeds) > 1:
        alone = assembly.assemble(dataclasses.replace(chosen, num_seeds=1))
    return [
        Trained(
            seed,
            alone,
            parts.where.select_seed(found.state[0].learner.params, number),
            found.path,
            found.about,
        )
        for number, seed in enumerate(parts.where.seeds)
    ]


def about_runs(name: str, description: str) -> argparse.ArgumentParser:
    """Returns the parser of a command for several runs: their directories, and one for results."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}", description=description, allow_abbrev=False
    )
    parser.add_argument("runs", type=Path, nargs="+", help="directories of runs")
    parser.add_argument("--out", type=Path, required=True, help="directory for the results")
    return parser


def play(trained: Trained) -> tuple[Task, Trajectory]:
    """Plays the hold-out tasks of evaluations, [K, ...]; returns tasks and meta-episodes."""
    tasks = trained.parts.exam.of("holdout")
    play = jax.jit(trained.parts.trainer.play)
    return tasks, play(trained.params, tasks, jax.random.key(0))


def evaluate(run: Path) -> list[dict[str, Any]]:
    """Returns, for each seed, scores named as in metrics.csv, with the checkpoint."""
    trained = load(run)
    known = references.of_run(trained[0].parts.env, run)
    return [
        {
            "checkpoint": str(path),
            "seed": seed,
            "iteration": about["iteration"],
            "env_steps": about["env_steps"],
            **exam.scores(parts.trainer, parts.exam, known, jax.device_get(parts.evaluate(params))),
            "params_sha256": params_sha256(params),
        }
        for seed, parts, params, path, about in trained
    ]


def params_sha256(params: Any) -> str:
    """Returns the SHA-256 over name, shape, type and bytes of every parameter."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.flatten_with_path(params)[0]:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
