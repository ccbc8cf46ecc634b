"""Errors for people: one clear line on the standard error, no traceback."""

from __future__ import annotations

import sys
from typing import NoReturn

FAILED = 1  # the run itself went wrong: not-a-number, a full disk, damaged checkpoints
WRONG_USAGE = 2  # what was asked for makes no sense


def failed(message: str) -> NoReturn:
    """Ends the program with exit status 1."""
    _end(message, FAILED)


def wrong_usage(message: str) -> NoReturn:
    """Ends the program with exit status 2."""
    _end(message, WRONG_USAGE)


def warn(message: str) -> None:
    """The program goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _end(message: str, status: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(status)
