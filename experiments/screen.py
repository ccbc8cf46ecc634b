"""Output of a run on the screen: references, a line for each evaluation, a progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from taskbelief import evaluation
from taskbelief.evaluation import References

_WIDTHS = (11, 22, 7, 10, 8, 7)
TITLES = ("steps", "hold-out score", "train", "belief NLL", "steps/s", "time")


def introduction(found: References | None, seconds: float) -> str:
    """Returns lines about the references; `found`: those of the hold-out tasks."""
    done = f"Compiled in {seconds:.0f} s."
    if found is None:
        return (
            f"{done} No scripted expert earns more than random actions here: returns stand for"
            " scores."
        )
    lines = [f"{done} Hold-out returns, and the scores they stand for:"]
    policies = {
        "random actions": found.random,
        "explorer (infers the task exactly)": found.explorer,
        "expert (knows the task)": found.expert,
    }
    for name, value in policies.items():
        if value is not None:
            lines.append(f"  {name:34} {value:8.2f} {evaluation.normalise(value, found):8.2f}")
    return "\n".join(lines)


def line(row: dict[str, float]) -> str:
    """Returns the line of an evaluation, under `TITLES`."""
    score, train, belief = "-", f"{row['eval/train/return']:.2f}", "-"
    if "eval/train/score" in row:
        train = f"{row['eval/train/score']:.3f}"
    if "eval/holdout/score" in row:
        low, high = row["eval/holdout/score_low"], row["eval/holdout/score_high"]
        score = f"{row['eval/holdout/score']:.3f} [{low:.3f}, {high:.3f}]"
    elif "eval/holdout/return" in row:
        score = f"{row['eval/holdout/return']:.2f}"
    for split in ("train", "holdout"):
        if f"eval/{split}/label_nll" in row:
            belief = f"{row[f'eval/{split}/label_nll']:.2f}"
    measured = row.get("time/env_steps_per_second")
    speed = "-" if measured is None else f"{measured:,.0f}"
    time = duration(row["time/wall_seconds"])
    steps = f"{row['env_steps']:,}"
    return table(steps, score, train, belief, speed, time)


def table(*cells: str) -> str:
    return "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def status(row: dict[str, float], left: float) -> str:
    """Returns the text next to the progress bar."""
    parts = []
    if "time/env_steps_per_second" in row:
        parts.append(f"{row['time/env_steps_per_second']:,.0f} steps/s")
    parts.append(f"{duration(left)} left")
    for split, word in (("holdout", "hold-out"), ("train", "train")):
        if f"eval/{split}/score" in row:
            parts.append(f"{word} {row[f'eval/{split}/score']:.3f}")
    if "train/belief_nll" in row:
        parts.append(f"belief {row['train/belief_nll']:.2f}")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextlib.contextmanager
def bar(total: int, done: int) -> Iterator[tuple[Callable, Callable]]:
    """Yields `show(done, text)` for the progress bar and `say(line)` for lines above it.

    `done` of `total` are agent steps. There is no bar where the output is not a terminal.
    """
    console = Console(highlight=False, soft_wrap=True)
    if not sys.stdout.isatty():
        yield lambda done, text: None, lambda line: print(line, flush=True)
        return
    columns = (
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(max(6, console.width - 80)),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task("", total=total, completed=done, text="")
        yield (
            lambda done, text: progress.update(shown, completed=done, text=text),
            lambda line: console.print(line, markup=False),
        )
