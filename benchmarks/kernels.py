"""Milliseconds of the recurrent cores, forward and with the backward pass, beside PyTorch's.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --core lstm --size 120,32,128 --json

A size is T,B,H: steps, meta-episodes side by side, units; inputs have 48 numbers. Ours and
PyTorch's (`nn.LSTM`, `nn.GRU`, where torch is installed, with as many threads as there are
cores) are timed in turns, in one process; figures are medians, compilation is left out. What is
timed backwards is the gradient of a sum of the outputs by inputs and parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import machine
from taskbelief.networks import cores, functional

INPUTS = 48
SIZES = ("120,32,64", "120,32,128", "120,128,128", "500,64,128")

# a call runs the whole pass and waits for its result
_Call = Callable[[], object]


def ours(core: str, steps: int, batch: int, hidden: int) -> dict[str, _Call]:
    kind = cores.CORES[core]
    network = functional(lambda rngs: kind(INPUTS, hidden, steps, rngs=rngs))
    params = network.init(jax.random.key(0))
    x_key, weight_key = jax.random.split(jax.random.key(1))
    x = jax.random.normal(x_key, (steps, batch, INPUTS))
    weight = jax.random.normal(weight_key, (steps, batch, hidden))
    reset = jnp.zeros((steps, batch), bool).at[0].set(True)

    def loss(params: Any, x: Any) -> Any:
        carry = kind.initial(batch, hidden)
        return jnp.sum(weight * network.apply(params, carry, x, reset)[1])

    forward = jax.jit(loss)
    backward = jax.jit(jax.grad(loss, argnums=(0, 1)))
    return {
        "forward": lambda: jax.block_until_ready(forward(params, x)),
        "forward_backward": lambda: jax.block_until_ready(backward(params, x)),
    }


def theirs(core: str, steps: int, batch: int, hidden: int) -> dict[str, _Call]:
    """PyTorch's; none where it has no such core or is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    if core not in kinds:
        return {}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = kinds[core](INPUTS, hidden)
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((steps, batch, INPUTS)), dtype=torch.float32)
    weight = torch.tensor(rng.standard_normal((steps, batch, hidden)), dtype=torch.float32)
    x.requires_grad_()

    def loss() -> Any:
        return torch.sum(weight * network(x)[0])

    def forward() -> object:
        with torch.no_grad():
            return loss().item()

    def backward() -> object:
        network.zero_grad()
        x.grad = None
        loss().backward()
        return x.grad

    return {"torch_forward": forward, "torch_forward_backward": backward}


def measure(core: str, steps: int, batch: int, hidden: int, repeats: int) -> dict[str, Any]:
    calls = ours(core, steps, batch, hidden) | theirs(core, steps, batch, hidden)
    for call in calls.values():  # compiles and warms up
        call()
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    row: dict[str, Any] = {"core": core, "T": steps, "B": batch, "H": hidden}
    row |= {f"{n}_ms": round(1e3 * statistics.median(s), 2) for n, s in seconds.items()}
    if "torch_forward_backward_ms" in row:
        row["ratio"] = round(row["forward_backward_ms"] / row["torch_forward_backward_ms"], 2)
    return row


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Milliseconds of the recurrent cores.")
    parser.add_argument("--core", nargs="+", choices=list(cores.CORES), default=list(cores.CORES))
    parser.add_argument("--size", nargs="+", default=list(SIZES), help="T,B,H")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--out", type=Path, help="a file for machine and results, JSON")
    arguments = parser.parse_args(args)
    rows = []
    for size in arguments.size:
        for core in arguments.core:
            steps, batch, hidden = (int(part) for part in size.split(","))
            row = measure(core, steps, batch, hidden, arguments.repeats)
            rows.append(row)
            if not arguments.json:
                print(row, flush=True)
    if arguments.json:
        print(json.dumps(rows))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"machine": machine(), "results": rows}, indent=1))


if __name__ == "__main__":
    main()
