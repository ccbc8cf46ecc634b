"""taskbelief: meta reinforcement learning as task inference, in JAX.

The import is cheap: environments need jax and numpy only; the parts for training are loaded at
their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskbelief import adapters, posterior
    from taskbelief.api import Trained, load, train, train_function
    from taskbelief.checks import check_env
    from taskbelief.foreign import from_brax, from_gymnax
    from taskbelief.registry import environments, make, register
    from taskbelief.scoring import score

__version__ = "0.1.0"
__all__ = [
    "Trained",
    "__version__",
    "adapters",
    "check_env",
    "environments",
    "from_brax",
    "from_gymnax",
    "load",
    "make",
    "posterior",
    "register",
    "score",
    "train",
    "train_function",
]

_LATER = {
    "Trained": "api",
    "check_env": "checks",
    "from_brax": "foreign",
    "from_gymnax": "foreign",
    "environments": "registry",
    "load": "api",
    "make": "registry",
    "register": "registry",
    "score": "scoring",
    "train": "api",
    "train_function": "api",
}


_MODULES = ("adapters", "posterior")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"taskbelief.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'taskbelief' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"taskbelief.{_LATER[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"taskbelief.{name} needs {error.name}: pip install 'taskbelief[train]'"
        ) from error
