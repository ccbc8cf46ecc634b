"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from typing import Any

import jax

from experiments import devices


def machine() -> dict[str, Any]:
    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "cores": devices.cores(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "load": round(os.getloadavg()[0], 1),  # above 1 before the start: others are at work
    }
