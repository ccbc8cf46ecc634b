"""Measures seconds from the start of a training command to its first metrics, cold and warm.

    python -m benchmarks.start
    python -m benchmarks.start --env bandit --agent belief --json

Cold: without stored programs. Warm: the same command again, with the programs that the cold start
stored. The first metrics are the first row of metrics.csv, the evaluation before training. The
default command is that of `make run`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from experiments import stop

_TOO_LONG = 600.0  # seconds


def seconds(flags: Sequence[str], cache: Path, run: Path) -> float:
    """Measures one start, which ends with its first row."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", "experiments.run", *flags]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--cache", str(cache), "--out", str(run)],
        env=environment,
        stdout=subprocess.DEVNULL,
    ) as training:
        try:
            while not _rows(run / "metrics.csv"):
                if training.poll() is not None:
                    stop.failed(f"{' '.join(command)} ended before its first metrics")
                if time.perf_counter() - start > _TOO_LONG:
                    stop.failed(f"no metrics after {_TOO_LONG:.0f} seconds")
                time.sleep(0.05)
            return time.perf_counter() - start
        finally:
            training.kill()


def _rows(metrics: Path) -> int:
    """Returns the lines after the header."""
    return max(0, metrics.read_text().count("\n") - 1) if metrics.exists() else 0


def measure(flags: Sequence[str], repeats: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            cache = Path(folder, f"cache-{number}")
            for name, times in found.items():
                times.append(seconds(flags, cache, Path(folder, f"{name}-{number}")))
    row = {f"{name}_seconds": round(statistics.median(s), 1) for name, s in found.items()}
    return {"flags": " ".join(flags), "repeats": repeats, **row}


def main(args: Sequence[str] | None = None) -> None:
    parser = machine.parser("start", "Seconds to the first metrics of a run.", repeats=3)
    given, flags = parser.parse_known_args(args)
    here = machine.machine()
    row = measure(flags or ["--env", "numpad", "--agent", "aux_head"], given.repeats)
    print(json.dumps(row) if given.json else row)
    machine.write(given.out, here, [row])


if __name__ == "__main__":
    main()
