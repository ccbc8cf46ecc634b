"""Common parts of benchmarks: the description of the machine, flags and output."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

from experiments import devices


def machine() -> dict[str, Any]:
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "cores": devices.cpu_cores(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "load": round(os.getloadavg()[0], 1),  # above 1 before the start: other processes run
    }


def parser(name: str, description: str, repeats: int) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, allow_abbrev=False
    )
    made.add_argument(
        "--repeats", type=int, default=repeats, help="timings of which the median counts"
    )
    made.add_argument("--json", action="store_true", help="print one line of JSON")
    made.add_argument("--out", type=Path, help="a file for machine and results, JSON")
    return made


def write(path: Path | None, machine: dict[str, Any], results: list[dict[str, Any]]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
