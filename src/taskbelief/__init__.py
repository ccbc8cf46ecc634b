"""taskbelief: meta reinforcement learning as task inference, in JAX.

Importing it costs jax and numpy; what trains is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from taskbelief.registry import environments, make, register

if TYPE_CHECKING:
    from taskbelief.checks import check_env

__version__ = "0.1.0"
__all__ = ["__version__", "check_env", "environments", "make", "register"]

_LATER = {"check_env": "taskbelief.checks"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'taskbelief' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
