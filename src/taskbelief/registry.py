"""A name is a file name: `make("numpad")` finds `envs/numpad.py`.

Every component's file has a `make`. Nothing is to be edited when one is added. Environments
also come from outside the package: `register("mine", Mine)`, or "package.module:Class".
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from taskbelief.types import Env

_registered: dict[str, Callable[..., Env]] = {}


def names(room: str) -> tuple[str, ...]:
    """The components of `room` ("envs", "agents", "learners", "labels"), sorted."""
    package = importlib.import_module(f"taskbelief.{room}")
    modules = (info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def find(room: str, name: str) -> ModuleType:
    """The module that defines component `name`.

    Raises:
      ValueError: there is none; the message lists the names and the nearest one.
    """
    if name not in names(room):
        raise _unknown(room.removesuffix("s"), name, names(room))
    return importlib.import_module(f"taskbelief.{room}.{name}")


def lines(room: str) -> dict[str, str]:
    """{name: the first line of its docstring} of the components of `room`; nothing is imported
    for it but the room. Environments: those that were registered too."""
    found = {}
    for name in names(room):
        spec = importlib.util.find_spec(f"taskbelief.{room}.{name}")
        assert spec is not None and spec.origin is not None
        found[name] = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    if room == "envs":
        found |= {name: inspect.getdoc(made_by) or "" for name, made_by in _registered.items()}
    return {name: text.partition("\n")[0] for name, text in found.items()}


def _unknown(what: str, name: str, choices: tuple[str, ...]) -> ValueError:
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}: choose from {', '.join(choices)}{hint}")


# ---- environments -----------------------------------------------------------------


def environments() -> tuple[str, ...]:
    """The names that `make` knows: the package's own, and those that were registered."""
    return (*names("envs"), *sorted(_registered))


def register(name: str, factory: Callable[..., Env]) -> None:
    """Makes `name` an environment's name in this process.

    Args:
      name: for `make`, `train` and the adapters. Registering it again replaces the factory.
      factory: (**settings) -> environment; usually its dataclass.

    Raises:
      ValueError: the name is one of the package's own, or holds a colon.
    """
    if name in names("envs") or ":" in name:
        raise ValueError(f"register {name!r}: must be a name of its own, without a colon")
    _registered[name] = factory


def factory(name: str) -> Callable[..., Env]:
    """What makes the environment `name`: a file's, a registered one, or "package.module:Class",
    where an environment may stand for the class; its settings are then the defaults.

    Raises:
      ValueError: there is none; the message says what was looked for.
    """
    if name in _registered:
        return _registered[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in environments():
            raise _unknown("env", name, environments())
        return find("envs", name).make
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"unknown env {name!r}: {error}") from error
    return found if callable(found) else _again(found)


def _again(env: Env) -> Callable[..., Env]:
    """(**settings) -> `env` with these settings."""

    def make(**settings: Any) -> Env:
        return dataclasses.replace(env, **settings)  # type: ignore[type-var]

    make.__signature__ = inspect.signature(type(env))  # type: ignore[attr-defined]
    return make


def name_of(env: Env) -> str:
    """The name that `make` knows `env` by."""
    for name, made_by in _registered.items():
        if type(env) is made_by:
            return name
    package, _, module = type(env).__module__.rpartition(".")
    if package == "taskbelief.envs":
        return module
    return f"{type(env).__module__}:{type(env).__qualname__}"


def make(env: str | Env, **settings: Any) -> Env:
    """The environment of that name; `settings` are the fields of its dataclass. One that is made
    already stays as it is.

    Raises:
      ValueError: unknown name or setting, or a setting that makes no sense; the message
        names the field, the value and what is allowed.
    """
    if not isinstance(env, str):
        return dataclasses.replace(env, **settings) if settings else env  # type: ignore[type-var]
    made_by = factory(env)
    allowed = tuple(inspect.signature(made_by).parameters)
    for setting in settings:
        if setting not in allowed:
            raise ValueError(f"{env} has no setting {setting!r}: choose from {', '.join(allowed)}")
    return made_by(**settings)
