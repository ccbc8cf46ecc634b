"""Measures steps per second of a whole agent: acting, learning, and both in the compiled step.

    python -m benchmarks.throughput --env numpad --agent aux_head
    python -m benchmarks.throughput --env numpad --vary train.envs 32 128 512
    python -m benchmarks.throughput --json --profile trace -- --agent.hidden 128

Flags of experiments.run follow "--" (those of environment, agent, learner and preset can stand
anywhere), so that the benchmark measures a real run. The results go to
benchmarks/results/<platform>/throughput-<env>-<agent>.json (--out), with a table, and with --vary a
picture. Each figure is the median of several timings after a warm-up, without compilation. The
matrix products of an update are counted from its program, with the lengths of its loops, and
compared with the peak of a product of 2048 x 2048 float32 matrices in this process.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from jax.extend import core as jax_core

from benchmarks.machine import machine
from experiments import assembly, command, devices, footprint, placement, stop
from experiments.assembly import Assembly
from taskbelief import parallel, replay

RATES = ("acting_steps_per_s", "trained_steps_per_s", "end_to_end_steps_per_s")


def measure(args: Sequence[str], repeats: int, profile: Path | None = None) -> dict[str, Any]:
    """Measures the run that the flags `args` describe."""
    chosen, _ = command.parse(args)
    parts = assembly.assemble(chosen)
    seeds, learner = len(parts.where.seeds), parts.trainer.learner
    state, sums = placement.checkpointed(parts.placed, parts.where)
    iterate = jax.jit(placement.iterate(parts.placed.step), donate_argnums=(0, 1))
    began = time.perf_counter()
    num = jax.ShapeDtypeStruct((), jnp.int32)
    compiled = iterate.lower(state, sums, num, num).compile()
    compile_seconds = time.perf_counter() - began
    used = compiled.memory_analysis()

    state = parts.placed.init(parts.placed.seeds)
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    # the first iteration fills the replay
    state, sums, _ = compiled(state, sums, np.int32(1), np.int32(parts.length.collections(0)))
    # copied, because the measured iterations reuse the buffers of the state
    learnt = jax.tree.map(jnp.copy, parts.where.select_seed(state.learner, 0))
    acting = _median(lambda: parts.trainer.collect(learnt.params, jax.random.key(0)), repeats)
    batch = _batch(parts, chosen, state, learnt)
    updates = parts.iteration_updates // learner.steps
    key = jax.random.key(1)

    @jax.jit
    def learn(learnt: Any, batch: Any, key: Any) -> Any:
        """Runs an iteration's updates in one program, as a run does."""

        def update(learnt: Any, key: Any) -> Any:
            return learner.update(learnt, batch, key)

        return jax.lax.scan(update, learnt, jax.random.split(key, updates))

    products = flops(jax.make_jaxpr(learner.update)(learnt, batch, key).jaxpr)
    peak = peak_flops(repeats)

    def iteration() -> None:
        nonlocal state, sums
        state, sums, _ = jax.block_until_ready(compiled(state, sums, np.int32(1), np.int32(1)))

    # alternately, so that a slower moment of the machine affects both
    turns = _turns((lambda: learn(learnt, batch, key), iteration), repeats)
    updating = statistics.median(alone for alone, _ in turns) / updates
    both = statistics.median(whole for _, whole in turns)
    outside = statistics.median(1 - alone / whole for alone, whole in turns)
    if profile is not None:
        with jax.profiler.trace(str(profile)):
            iteration()
    steps, trained = batch.reward.shape
    return {
        "env": chosen.env_name,
        "agent": chosen.agent_name,
        "learner": chosen.learner_name,
        "seeds": seeds,
        "devices": parts.where.mesh.size,
        "envs": chosen.train.envs,
        "batch": trained,
        "steps": steps,
        "hidden": getattr(chosen.agent, "hidden", None),
        "acting_steps_per_s": round(parts.length.iteration_steps / acting),
        "trained_steps_per_s": round(steps * trained / updating),
        "end_to_end_steps_per_s": round(seeds * parts.length.iteration_steps / both),
        "update_ms": round(1e3 * updating, 2),
        "iteration_ms": round(1e3 * both, 2),
        "outside_update": None if seeds > 1 else round(outside, 3),
        "compile_s": round(compile_seconds, 1),
        "peak_memory_bytes": _peak_memory(used),
        "replay_bytes": parts.placed.needs.replay,
        "update_gflop": round(products / 1e9, 3),
        "gflop_per_s": round(products / updating / 1e9, 2),
        "share_of_peak": round(products / updating / peak, 3),
        "peak_gflop_per_s": round(peak / 1e9, 1),
    }


def _median(call: Callable[[], Any], repeats: int) -> float:
    return statistics.median(seconds for (seconds,) in _turns((call,), repeats))


def _turns(calls: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Times the calls alternately, `repeats` times, after compilation and warm-up."""
    turns = [[_seconds(call) for call in calls] for _ in range(repeats + 2)]
    return turns[2:]


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def _batch(parts: Assembly, chosen: Any, state: Any, learnt: Any) -> Any:
    """Returns the input of an update."""
    key = jax.random.key(2)
    if state.replay is None:
        return parts.trainer.collect(learnt.params, key)
    rings = parts.where.select_seed(state.replay, 0)
    kind = parts.trainer.learner.replay or replay.WHOLE

    def sample(rings: Any) -> Any:
        return parallel.shard(kind.sample(rings, key, chosen.train.batch), parts.where.mesh, 1)

    return jax.jit(sample)(rings)


def _peak_memory(used: Any) -> int:
    """Returns the peak memory that the device reports; on a CPU that of the compiled step."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    return used.argument_size_in_bytes + used.temp_size_in_bytes


def peak_flops(repeats: int) -> float:
    """Measures floating-point operations per second of a large matrix product."""
    size = 2048
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)
    return 2 * size**3 / _median(lambda: product(a), repeats)


def flops(program: Any) -> int:
    """Counts the floating-point operations of the matrix products in a jaxpr, with the repetitions
    of loops (XLA's own cost analysis counts a loop's body once) and the most expensive branches."""
    total = 0
    for equation in program.eqns:
        inner = [flops(one) for one in jax_core.jaxprs_in_params(equation.params)]
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)
        elif name == "cond":
            total += max(inner)
        else:
            total += sum(inner) * equation.params.get("length", 1)
    return total


def table(rows: Sequence[dict[str, Any]]) -> str:
    sizes = ("envs", "batch", "hidden", "seeds", "devices")
    costs = ("outside_update", "compile_s", "peak_memory_bytes", "share_of_peak")
    names = (*sizes, *RATES, *costs)
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|" + "---|" * len(names))
    for row in rows:
        cells = [
            footprint.amount(row[name]) if name.endswith("bytes") else _text(row[name])
            for name in names
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


def draw(rows: Sequence[dict[str, Any]], flag: str, values: Sequence[str], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for name in RATES:
        label = name.removesuffix("_steps_per_s").replace("_", " ")
        axes.plot([row[name] for row in rows], marker="o", label=label)
    axes.set_xticks(range(len(values)), values)
    axes.set(xlabel=flag, ylabel="agent steps per second", yscale="log")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(args: Sequence[str] | None = None) -> None:
    args = list(sys.argv[1:] if args is None else args)
    devices.from_cores()  # as in a run
    cut = args.index("--") if "--" in args else len(args)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description="Steps per second of a whole agent; flags of experiments.run after --.",
        allow_abbrev=False,
    )
    for name in ("env", "agent", "learner", "preset"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--vary", nargs="+", default=[], metavar="FLAG VALUE")
    parser.add_argument(
        "--repeats", type=int, default=15, help="timings of which the median counts"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--profile", type=Path, help="directory for JAX's trace of one iteration")
    parser.add_argument("--out", type=Path, help="file for the results, JSON")
    given = parser.parse_args(args[:cut])
    named = ("env", "agent", "learner", "preset")
    flags = [part for name in named if (v := getattr(given, name)) for part in (f"--{name}", v)]
    flags += args[cut + 1 :]
    if len(given.vary) == 1:
        stop.wrong_usage(f"--vary {given.vary[0]}: name its values too")
    if given.repeats < 1:
        stop.wrong_usage(f"--repeats {given.repeats}: must be at least 1")
    flag, *values = given.vary or [""]
    here = machine()
    rows = [
        measure([*flags, *([f"--{flag}", value] if flag else [])], given.repeats, given.profile)
        for value in values or [""]
    ]
    varied = f"-{flag.rpartition('.')[2]}" if flag else ""
    name = f"throughput-{rows[0]['env']}-{rows[0]['agent']}{varied}.json"
    out = given.out or Path("benchmarks", "results", jax.default_backend(), name)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": here, "flags": flags, "varied": flag, "results": rows}
    out.write_text(json.dumps(record, indent=1) + "\n")
    if flag:
        draw(rows, flag, values, out.with_suffix(".png"))
    print(json.dumps(rows) if given.json else table(rows))


if __name__ == "__main__":
    main()
