"""What touches files: what a run is made of, its presets, its checkpoints, how it is read back.

The one part of the package that does; used by the Python API and by the command line.
"""

from __future__ import annotations


class Refused(ValueError):
    """What was asked for makes no sense; one sentence says why."""


class Failed(RuntimeError):
    """Files are damaged, or do not hold what was looked for."""
