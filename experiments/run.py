"""Trains an agent, evaluates it during training, and stores everything to continue or repeat it.

    python -m experiments.run --env numpad --agent aux_head
    python -m experiments.run --resume runs/numpad-aux_head-svg0-s0-20260101-120000

In the run's directory: config.json, metrics.csv, TensorBoard events, curves.png, checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import (
    assembly,
    command,
    devices,
    figures,
    folder,
    footprint,
    loggers,
    placement,
    references,
    screen,
    stop,
)
from experiments.assembly import Assembly
from experiments.command import Options
from taskbelief import exam
from taskbelief.evaluation import References
from taskbelief.runs import checkpoint, hosts
from taskbelief.runs.checkpoint import Checkpoint
from taskbelief.runs.config import RunConfig

_CALL_SECONDS = 1.0  # of compiled work between checks of clocks and signals
_FIGURE_SECONDS = 20.0  # between drawings of curves.png, each of which takes a second or two


def main(args: Sequence[str] | None = None) -> None:
    args = sys.argv[1:] if args is None else args
    command.join(args)
    chosen, options = command.parse(args)
    devices.use_cache(options.cache)
    with contextlib.ExitStack() as stack:
        if not hosts.first():  # only one process prints
            silence = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        print(command.about(chosen))
        parts = assembly.assemble(chosen)
        print(footprint.check(parts.placed.needs, parts.where.mesh.local_devices))
        run = folder.create(chosen, options, args) if options.resume is None else options.resume
        stack.enter_context(folder.locked(run))
        signals = stack.enter_context(_signals())
        try:
            _train(chosen, options, parts, run, signals)
        except OSError as error:
            stop.failed(f"{error.strerror or error} (writing {run}; --resume {run} continues)")
    if signals.received:
        raise SystemExit(128 + signals.received)


# ---- training ---------------------------------------------------------------------


class Compiled(NamedTuple):
    init: Callable  # () -> state
    zero: Callable  # () -> sums
    iterate: Callable  # (state, sums, num, collections) -> (state, sums, finite)
    evaluate: Callable  # (params) -> (Evaluation, KL)
    references: dict[str, References | None]
    seconds: float


def _compile(parts: Assembly, run: Path, like: Any, starts: bool) -> Compiled:
    """Compiles training and evaluation in parallel; finds or measures the references.

    `like`: (state, sums) as shapes and types; `starts`: whether training starts from the seed."""
    start = time.perf_counter()
    state, sums = like
    num = collections = jax.ShapeDtypeStruct((), jnp.int32)
    iterate = jax.jit(placement.iterate(parts.placed.step), donate_argnums=(0, 1))
    zero = jax.jit(
        lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, sums),
    )
    lowered = [
        iterate.lower(state, sums, num, collections),
        parts.evaluate.lower(state.learner.params),
    ]
    if starts:
        lowered.append(parts.placed.init.lower(parts.placed.seeds))
    with ThreadPoolExecutor() as pool:
        compiling = [pool.submit(program.compile) for program in lowered]
        finding = pool.submit(references.of_run, parts.env, run)
        iterate, evaluate, *more = (program.result() for program in compiling)
        known = finding.result()
    seconds = time.perf_counter() - start
    init = more[0] if starts else parts.placed.init  # not called by a run that continues
    start_state = functools.partial(init, parts.placed.seeds)
    return Compiled(start_state, zero, iterate, evaluate, known, seconds)


def _train(
    chosen: RunConfig, options: Options, parts: Assembly, run: Path, signals: _Signals
) -> None:
    print(f"Files go to {run}. Compiling ...", flush=True)
    like = placement.checkpointed(parts.placed, parts.where)
    with stop.sentences():
        last = checkpoint.newest_good(run, like, warn=stop.warn)
    compiled = _compile(parts, run, like, starts=last is None)
    state, sums, about, saved = _start(compiled, last)
    iteration, steps = about["iteration"], parts.length.steps
    print(screen.introduction(compiled.references["holdout"], compiled.seconds), flush=True)

    num_seeds = len(parts.where.seeds)
    rows, evaluations = schedule(parts.length.iterations, chosen.rows, chosen.evaluations)
    columns = _columns(parts, compiled.references, like)
    began, earlier = time.perf_counter(), about["wall_seconds"]
    last_save = last_figure = began
    # of the current row: seconds of training, first iteration
    row_seconds, row_start = 0.0, iteration
    latest: dict[str, float] = {}

    def wall() -> float:
        return earlier + time.perf_counter() - began

    def save() -> Path:
        about = {"iteration": iteration, "env_steps": steps(iteration), "wall_seconds": wall()}
        return checkpoint.save(run, iteration, (state, sums), about, options.keep)

    resume_from = None if saved is None else iteration
    with (
        loggers.files(run, columns, parts.where.seeds, resume_from) as write,
        screen.bar(steps(parts.length.iterations), steps(iteration)) as (show, say),
    ):
        say(screen.table(*screen.TITLES))

        def log(row: dict[str, float], seed_rows: Sequence[dict[str, float]]) -> None:
            """Logs a row; `row`: values of all seeds. The screen shows means over seeds."""
            for seed, own in zip(parts.where.seeds, seed_rows, strict=True):
                write({"seed": seed, **row, **own})
            means = {
                name: float(np.mean([own[name] for own in seed_rows])) for name in seed_rows[0]
            }
            latest.update(row | means)

        if saved is None:
            row: dict[str, float] = {"iteration": 0, "env_steps": steps(0)}
            found = _evaluate(parts, compiled, state)
            row |= {"time/wall_seconds": wall(), "time/compile_seconds": compiled.seconds}
            log(row, found)
            say(screen.line(latest))
        signals.training = True
        call = 1  # iterations in the next call
        stopping = 0  # the signal to stop
        while iteration < parts.length.iterations and not stopping:
            target = rows[np.searchsorted(rows, iteration, side="right")]
            num = min(call, int(target) - iteration)
            called = time.perf_counter()
            state, sums, finite = compiled.iterate(
                state, sums, np.int32(num), np.int32(parts.length.collections(iteration))
            )
            finite, totals = jax.device_get((finite, sums))
            seconds = time.perf_counter() - called
            iteration += num
            row_seconds += seconds
            _stop_if_not_finite(state.learner, finite, totals, steps(iteration), saved)

            if iteration == target:
                done = iteration - int(rows[np.searchsorted(rows, iteration) - 1])
                found = [
                    {f"train/{name}": float(total) / done for name, total in own.items()}
                    for own in parts.where.each(totals)
                ]
                if iteration in evaluations:
                    evaluated = _evaluate(parts, compiled, state)
                    found = [own | more for own, more in zip(found, evaluated, strict=True)]
                played = steps(iteration) - steps(row_start)
                updates = (iteration - row_start) * parts.iteration_updates
                row = {
                    "iteration": iteration,
                    "env_steps": steps(iteration),
                    "time/wall_seconds": wall(),
                    "time/compile_seconds": compiled.seconds,
                    "time/env_steps_per_second": num_seeds * played / row_seconds,
                    "time/updates_per_second": num_seeds * updates / row_seconds,
                }
                log(row, found)
                sums = compiled.zero()
                row_seconds, row_start = 0.0, iteration
            pace = (wall() - earlier) / (iteration - about["iteration"])
            show(
                steps(iteration),
                screen.status(latest, pace * (parts.length.iterations - iteration)),
            )
            if iteration in evaluations and hosts.first():
                say(screen.line(latest))
                if time.perf_counter() - last_figure > _FIGURE_SECONDS:
                    figures.curves(run)
                    last_figure = time.perf_counter()
            # clocks and signals differ between processes, but all must take the same decisions
            call, due, stopping = hosts.agree(
                max(1, round(num * min(_CALL_SECONDS / seconds, 4.0))),
                time.perf_counter() - last_save > 60 * options.checkpoint_minutes,
                signals.received,
            )
            if due:
                saved = save()
                last_save = time.perf_counter()
        if saved is None or int(saved.name) != iteration:
            saved = save()
    if hosts.first():
        figures.curves(run)
    if stopping:
        signals.received = stopping
        print(f"Stopped by {signal.Signals(stopping).name}; --resume {run} continues.")
    else:
        print(f"Done in {screen.duration(wall())}: {run}/curves.png, {run}/metrics.csv")


def _start(
    compiled: Compiled, last: Checkpoint | None
) -> tuple[Any, Any, dict[str, Any], Path | None]:
    """Returns (state, sums, about, checkpoint), from the checkpoint or from the seed."""
    if last is not None:
        print(f"Continuing from {last.path}, step {last.about['env_steps']:,}.")
        state, sums = last.state
        return state, sums, last.about, last.path
    return compiled.init(), compiled.zero(), {"iteration": 0, "wall_seconds": 0.0}, None


def schedule(iterations: int, rows: int, evaluations: int) -> tuple[np.ndarray, set[int]]:
    """Returns the iterations after which metrics are written, ascending from 0, and the evaluated
    ones."""

    def spread(num: int) -> np.ndarray:
        return np.round(np.linspace(0, iterations, num + 1)).astype(int)

    evaluated = spread(evaluations) if evaluations else np.array([iterations])
    return np.unique([*spread(rows), *evaluated]), set(evaluated.tolist())


def _evaluate(parts: Assembly, compiled: Compiled, state: Any) -> list[dict[str, float]]:
    """Evaluates each seed."""
    played = jax.device_get(compiled.evaluate(state.learner.params))
    return [
        exam.scores(parts.trainer, parts.exam, compiled.references, own)
        for own in parts.where.each(played)
    ]


def _columns(parts: Assembly, known: dict[str, References | None], like: Any) -> list[str]:
    """Returns all names of a run's metrics, before it starts; `like`: (state, sums) as shapes."""
    state, sums = like
    played = jax.eval_shape(parts.evaluate, state.learner.params)
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape), played)
    one = parts.where.select_seed(empty, 0)
    found = exam.scores(parts.trainer, parts.exam, known, one)
    return [
        "seed",
        "iteration",
        "env_steps",
        *found,
        *(f"train/{name}" for name in sums),
        "time/wall_seconds",
        "time/compile_seconds",
        "time/env_steps_per_second",
        "time/updates_per_second",
    ]


def _stop_if_not_finite(
    learner: Any, finite: Any, totals: dict[str, Any], steps: int, saved: Path | None
) -> None:
    paths = jax.tree.flatten_with_path(finite)[0]
    bad = [f"train/{name}" for name, total in totals.items() if not np.all(np.isfinite(total))]
    bad += [f"learner{jax.tree_util.keystr(path)}" for path, is_finite in paths if not is_finite]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        last = f"the last good checkpoint is {saved}" if saved else "there is no checkpoint yet"
        stop.failed(f"{bad[0]}{more} is not finite at step {steps:,}; {last}")


# ---- signals ----------------------------------------------------------------------


class _Signals:
    """Handles SIGINT and SIGTERM: the first makes the loop save and end, the second ends at
    once."""

    received = 0
    training = False  # before training there is nothing to save

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.training or self.received:
            os.write(2, b"stopped at once\n")
            os._exit(128 + number)
        self.received = number


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    signals = _Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
