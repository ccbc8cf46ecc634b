"""taskbelief: meta reinforcement learning as task inference, in JAX.

Importing it costs jax and numpy; what trains is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from taskbelief.registry import environments, make, register

if TYPE_CHECKING:
    from taskbelief.api import Trained, load, train, train_function
    from taskbelief.checks import check_env
    from taskbelief.scoring import score

__version__ = "0.1.0"
__all__ = [
    "Trained",
    "__version__",
    "check_env",
    "environments",
    "load",
    "make",
    "register",
    "score",
    "train",
    "train_function",
]

_LATER = {
    "Trained": "api",
    "check_env": "checks",
    "load": "api",
    "score": "scoring",
    "train": "api",
    "train_function": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'taskbelief' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"taskbelief.{_LATER[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"taskbelief.{name} needs {error.name}: pip install 'taskbelief[train]'"
        ) from error
