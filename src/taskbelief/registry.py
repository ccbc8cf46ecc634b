"""A name is a file name: `make("numpad")` finds `envs/numpad.py`.

Every component's file has a `make`. Nothing is to be edited when one is added.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from types import ModuleType

from taskbelief.types import Env


def names(room: str) -> tuple[str, ...]:
    """The components of `room` ("envs", "agents", "learners"), sorted."""
    package = importlib.import_module(f"taskbelief.{room}")
    modules = (info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def find(room: str, name: str) -> ModuleType:
    """The module that defines component `name`.

    Raises:
      ValueError: there is none; the message lists the names and the nearest one.
    """
    if name not in names(room):
        near = difflib.get_close_matches(name, names(room), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"unknown {room.removesuffix('s')} {name!r}: choose from {', '.join(names(room))}{hint}"
        )
    return importlib.import_module(f"taskbelief.{room}.{name}")


def environments() -> tuple[str, ...]:
    """The names that `make` knows."""
    return names("envs")


def make(name: str, **settings: object) -> Env:
    """The environment `name`; `settings` are the fields of its dataclass.

    Raises:
      ValueError: unknown name or setting, or a setting that makes no sense; the message
        names the field, the value and what is allowed.
    """
    environment = find("envs", name).make
    fields = [field.name for field in dataclasses.fields(environment)]
    for setting in settings:
        if setting not in fields:
            raise ValueError(f"{name} has no setting {setting!r}: choose from {', '.join(fields)}")
    return environment(**settings)
