"""Departures from the defaults of the components, per (env, agent, learner) and size.

Nowhere else. "cpu" is what 2 cores learn in minutes; "paper" is the whole task. A key is the
name of a flag. A row with ANY holds for all names; rows with more names override it.
"""

from __future__ import annotations

from collections.abc import Mapping

ANY = "*"
SIZES = ("cpu", "paper")

Departures = Mapping[str, object]

PRESETS: Mapping[str, Mapping[tuple[str, str, str], Departures]] = {
    "cpu": {
        (ANY, ANY, ANY): {"steps": 2_000_000},
        ("numpad", ANY, ANY): {
            "env.cues": True,
            "env.cue_share": 0.8,
            "env.train_tasks": 400,
        },
    },
    "paper": {
        (ANY, ANY, ANY): {"steps": 50_000_000},
    },
}


def departures(size: str, env: str, agent: str, learner: str) -> Departures:
    """What preset `size` changes for this combination: {flag: value}."""
    names = (env, agent, learner)
    table = PRESETS[size]
    matching = [
        key
        for key in table
        if all(part in (ANY, name) for part, name in zip(key, names, strict=True))
    ]
    merged: dict[str, object] = {}
    for key in sorted(matching, key=lambda key: sum(part != ANY for part in key)):
        merged |= table[key]
    return merged
