"""Errors of the command line: one line on the standard error, without traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

from taskbelief.runs import Failed

FAILED = 1  # errors of the run: not-a-number, a full disk, damaged checkpoints
WRONG_USAGE = 2  # invalid arguments


def failed(message: str) -> NoReturn:
    """Ends the program with exit status 1."""
    _end(message, FAILED)


def wrong_usage(message: str) -> NoReturn:
    """Ends the program with exit status 2."""
    _end(message, WRONG_USAGE)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Ends the program with the message of the package's ValueError or Failed."""
    try:
        yield
    except ValueError as error:
        wrong_usage(str(error))
    except Failed as error:
        failed(str(error))


def warn(message: str) -> None:
    """Prints a warning; the program continues."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _end(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(status)
