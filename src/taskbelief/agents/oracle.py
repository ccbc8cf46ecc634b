"""The upper reference: the baseline's network, on observations that contain the task."""

from __future__ import annotations

from taskbelief.agents.baseline import Config, make

__all__ = ["REVEALED", "Config", "make"]

REVEALED = True
