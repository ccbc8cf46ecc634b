"""Files of runs: configuration, presets, checkpoints. The Python API and the command line use them.

No other part of the package reads or writes files.
"""

from __future__ import annotations


class Refused(ValueError):
    """An invalid request; the message is one sentence with the reason."""


class Failed(RuntimeError):
    """Damaged files, or files without the expected content."""
