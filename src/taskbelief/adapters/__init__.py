"""The suite in other projects' interfaces; each module needs the project that it is named after,
and is loaded when it is first used: `taskbelief.adapters.gymnasium.make("numpad")`."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("brax", "gymnasium", "gymnax", "sb3")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'taskbelief.adapters' has no attribute {name!r}")
    return importlib.import_module(f"taskbelief.adapters.{name}")
