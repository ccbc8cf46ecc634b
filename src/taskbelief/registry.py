"""Components by name, which is the name of a file: `make("numpad")` finds `envs/numpad.py`.

Every component's file has a `make`. A new component is a new file, without further edits.
Environments can also come from outside the package: by `register("mine", Mine)`, or as
"package.module:Class".
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


def names(kind: str) -> tuple[str, ...]:
    """Returns the sorted names of components; `kind`: "envs", "agents", "learners", "labels"."""
    package = importlib.import_module(f"taskbelief.{kind}")
    modules = (info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in modules if not name.startswith("_")))


def find(kind: str, name: str) -> ModuleType:
    """Returns the module that defines component `name`.

    Raises:
      ValueError: there is no such component; the message lists the names and the nearest one.
    """
    if name not in names(kind):
        raise _unknown(kind.removesuffix("s"), name, names(kind))
    return importlib.import_module(f"taskbelief.{kind}.{name}")


def lines(kind: str) -> dict[str, str]:
    """Returns {name: the first line of its docstring} of all components of a kind, including
    registered environments. It does not import the components."""
    found = {}
    for name in names(kind):
        spec = importlib.util.find_spec(f"taskbelief.{kind}.{name}")
        assert spec is not None and spec.origin is not None
        found[name] = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    if kind == "envs":
        found |= {name: inspect.getdoc(made_by) or "" for name, made_by in _registered.items()}
    return {name: text.partition("\n")[0] for name, text in found.items()}


def _unknown(what: str, name: str, choices: tuple[str, ...]) -> ValueError:
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {what} {name!r}: choose from {', '.join(choices)}{hint}")


# ---- environments -----------------------------------------------------------------


def environments() -> tuple[str, ...]:
    """Returns the names that `make` accepts: the package's own and the registered ones."""
    return (*names("envs"), *sorted(_registered))


def register(name: str, factory: Callable[..., Env]) -> None:
    """Registers an environment under `name`, in this process.

    Args:
      name: for `make`, `train` and the adapters. Registering it again replaces the factory.
      factory: (**settings) -> environment; usually its dataclass.

    Raises:
      ValueError: the name is one of the package's own, or contains a colon.
    """
    if name in names("envs") or ":" in name:
        raise ValueError(f"register {name!r}: must be a name of its own, without a colon")
    _registered[name] = factory


def factory(name: str) -> Callable[..., Env]:
    """Returns the factory of the environment `name`: of a file, a registered one, or
    "package.module:Class"; if that is an environment, its settings are the defaults.

    Raises:
      ValueError: there is no such environment; the message gives the reason.
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
    """Returns the factory (**settings) -> `env` with these settings."""

    def make(**settings: Any) -> Env:
        return dataclasses.replace(env, **settings)  # type: ignore[type-var]

    make.__signature__ = inspect.signature(type(env))  # type: ignore[attr-defined]
    return make


def name_of(env: Env) -> str:
    """Returns the name under which `make` finds `env`."""
    for name, made_by in _registered.items():
        if type(env) is made_by:
            return name
    package, _, module = type(env).__module__.rpartition(".")
    if package == "taskbelief.envs":
        return module
    return f"{type(env).__module__}:{type(env).__qualname__}"


def make(env: str | Env, **settings: Any) -> Env:
    """Returns the environment of that name, with the fields `settings` of its dataclass. An
    instance is returned with these settings replaced.

    Raises:
      ValueError: an unknown name or setting, or an invalid setting; the message
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
