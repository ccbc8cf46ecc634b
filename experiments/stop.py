"""Errors for people: one clear line on the standard error, no traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from taskbelief.runs import Failed

FAILED = 1  # the run itself went wrong: not-a-number, a full disk, damaged checkpoints
WRONG_USAGE = 2  # what was asked for makes no sense


def failed(message: str) -> NoReturn:
    """Ends the program with exit status 1."""
    _end(message, FAILED)


def wrong_usage(message: str) -> NoReturn:
    """Ends the program with exit status 2."""
    _end(message, WRONG_USAGE)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Ends the program where the package refuses something, or fails, with its sentence."""
    try:
        yield
    except ValueError as error:
        wrong_usage(str(error))
    except Failed as error:
        failed(str(error))


def warn(message: str) -> None:
    """The program goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _end(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(status)
