"""Evaluates a run again, from its newest good checkpoint.

python -m experiments.evaluate RUN
python -m experiments.evaluate RUN --json      one line, with params_sha256
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import assembly, checkpoint, config, stop
from experiments.assembly import Assembly
from experiments.config import RunConfig
from taskbelief.types import Params


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate",
        description="Evaluates a run again, from its newest good checkpoint.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="directory of the run")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument(
        "--cache", type=Path, default=config.Options.cache, help="as in experiments.run"
    )
    arguments = parser.parse_args()
    assembly.use_cache(arguments.cache)
    found = evaluate(arguments.run)
    if arguments.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            print(
                f"{name:{width}}  {value:.4f}"
                if isinstance(value, float)
                else f"{name:{width}}  {value}"
            )


class Trained(NamedTuple):
    parts: Assembly
    params: Params
    path: Path  # of the checkpoint
    about: dict[str, Any]  # what it says of itself


def load(run: Path, chosen: RunConfig | None = None) -> Trained:
    """The run's newest good checkpoint; ends the program where there is none. `chosen` stands in
    for the run's config, which may differ in what is evaluated."""
    parts = assembly.assemble(config.load(run) if chosen is None else chosen)
    found = checkpoint.newest_good(run, assembly.like(parts))
    if found is None:
        stop.failed(f"{run} has no checkpoint yet")
    return Trained(parts, found.state[0].learner.params, found.path, found.about)


def evaluate(run: Path) -> dict[str, Any]:
    """Scores named as in metrics.csv, with the checkpoint they are of."""
    parts, params, path, about = load(run)
    played = parts.evaluate(params, parts.tasks, jax.random.key(0))
    references = assembly.references_of(parts.env, run)
    return {
        "checkpoint": str(path),
        "iteration": about["iteration"],
        "env_steps": about["env_steps"],
        **assembly.scores(parts, references, jax.device_get(played)),
        "params_sha256": params_sha256(params),
    }


def params_sha256(params: Any) -> str:
    """SHA-256 over name, shape, type and bytes of every parameter."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.flatten_with_path(params)[0]:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
