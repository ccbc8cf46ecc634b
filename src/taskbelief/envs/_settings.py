"""Checks of settings, made when an environment is constructed."""


def require(holds: bool, field: str, value: object, allowed: str) -> None:
    """Raises ValueError naming the field, its value and what is allowed, unless `holds`."""
    if not holds:
        raise ValueError(f"{field}={value!r}: must be {allowed}")


def require_split(split: str) -> None:
    require(split in ("train", "holdout"), "split", split, '"train" or "holdout"')
