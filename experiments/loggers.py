"""Logs of metrics: metrics.csv and TensorBoard events.

Both use the same names. A row is {name: value}; missing names stay empty.
"""

from __future__ import annotations

import contextlib
import csv
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore

from taskbelief.runs import hosts

Row = Mapping[str, float]


@contextlib.contextmanager
def files(
    run: Path, columns: Sequence[str], seeds: Sequence[int], resume_from: int | None
) -> Iterator[Callable]:
    """Yields `write(row)`, which appends to metrics.csv and to TensorBoard's events; each of
    several seeds has its own folder of events. Only the first of several processes writes.

    `resume_from`: the iteration of the checkpoint; later rows are removed. None: a new run.
    Raises OSError on a full disk.
    """
    if not hosts.first():
        yield lambda row: None
        return
    path = run / "metrics.csv"
    kept = [] if resume_from is None else _rows_until(path, columns, resume_from)
    with _open_new(path, columns, kept) as file, contextlib.ExitStack() as stack:
        events = {}
        for seed in seeds:
            folder = run if len(seeds) == 1 else run / f"seed-{seed}"
            folder.mkdir(exist_ok=True)
            # not tensorboardX's SummaryWriter, whose thread would hide the error of a full disk
            suffix = "" if resume_from is None else f".{resume_from}"
            events[seed] = EventsWriter(str(folder / "events"), suffix)
            stack.callback(events[seed].close)
            if kept:  # TensorBoard then hides events after the checkpoint
                after = int(kept[-1]["env_steps"]) + 1
                start = SessionLog(status=SessionLog.START)
                events[seed].write_event(Event(step=after, session_log=start))

        def write(row: Row) -> None:
            csv.DictWriter(file, columns).writerow(
                {name: _text(value) for name, value in row.items()}
            )
            file.flush()
            values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
            writer = events[int(row["seed"])]
            writer.write_event(
                Event(
                    wall_time=time.time(),
                    step=int(row["env_steps"]),
                    summary=Summary(value=values),
                )
            )
            writer.flush()

        yield write


def read(path: Path, seed: int | None = None) -> list[dict[str, str]]:
    """Returns the rows of a metrics.csv, of one seed or of all, without an incomplete last line."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    rows = csv.DictReader(whole.splitlines())
    return [row for row in rows if seed is None or int(row.get("seed", seed)) == seed]


def _rows_until(path: Path, columns: Sequence[str], iteration: int) -> list[dict[str, str]]:
    return [row for row in read(path) if int(row["iteration"]) <= iteration]


def _open_new(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]):
    """Replaces the file by header and `rows`, atomically; returns it open for appending."""
    new = path.with_suffix(".new")
    with new.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(new, path)
    return path.open("a", newline="")


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.7g}"
