"""Checks of settings at the construction of an environment."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any


def require(holds: bool, field: str, value: object, allowed: str) -> None:
    """Raises ValueError naming the field, its value and what is allowed, unless `holds`."""
    if not holds:
        raise ValueError(f"{field}={value!r}: must be {allowed}")


def require_types(settings: Any) -> None:
    """Raises ValueError naming the first field of the dataclass whose value is not of its type:
    int, float (or int), bool or str. Other types are not checked."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        is_bool = isinstance(value, bool)
        kinds = {
            "int": (isinstance(value, numbers.Integral) and not is_bool, "a whole number"),
            "float": (isinstance(value, numbers.Real) and not is_bool, "a number"),
            "bool": (is_bool, "True or False"),
            "str": (isinstance(value, str), "a string"),
        }
        kind = getattr(field.type, "__name__", field.type)
        if kind in kinds:
            holds, allowed = kinds[kind]
            require(holds, field.name, value, allowed)


def require_split(split: str) -> None:
    require(split in ("train", "holdout"), "split", split, '"train" or "holdout"')
