"""Measures milliseconds of the recurrent cores, forward and backward, and of PyTorch's.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --core lstm --size 120,32,128 --json

A size is T,B,H: steps, parallel meta-episodes, units; inputs have 48 numbers. Our cores are sharded
over all devices (a CPU's cores) and run several times in one program, as in training. Ours and
PyTorch's (`nn.LSTM`, `nn.GRU`, where torch is installed; on the GPU if JAX uses one, else with a
thread for each core) are timed alternately, in one process; figures are medians without
compilation. The backward pass is the gradient of a sum of the outputs by inputs and parameters.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from experiments import devices
from taskbelief import parallel
from taskbelief.networks import cores, functional

INPUTS = 48
SIZES = ("120,32,64", "120,32,128", "120,128,128", "500,64,128")

PASSES = 4  # of our cores in one program

# a call runs a pass, or PASSES of them, and waits for its result
_Call = Callable[[], object]


def ours(core: str, steps: int, batch: int, hidden: int) -> dict[str, _Call]:
    kind = cores.CORES[core]
    network = functional(lambda rngs: kind(INPUTS, hidden, steps, rngs=rngs))
    params = network.init(jax.random.key(0))
    x_key, weight_key = jax.random.split(jax.random.key(1))
    x = jax.random.normal(x_key, (steps, batch, INPUTS))
    weight = jax.random.normal(weight_key, (steps, batch, hidden))
    reset = jnp.zeros((steps, batch), bool).at[0].set(True)
    # as in training: meta-episodes sharded, parameters replicated
    mesh = parallel.mesh(jax.devices(), batch)
    sharded, replicated = parallel.sharded(mesh, 1), parallel.replicated(mesh)
    data = jax.device_put((x, weight, reset), sharded)
    params = jax.device_put(params, replicated)

    def loss(args: Any, weight: Any, reset: Any) -> Any:
        params, x = args
        carry = kind.initial(batch, hidden)
        return jnp.sum(weight * network.apply(params, carry, x, reset)[1])

    def forward(args: Any, *data: Any) -> Any:
        value = loss(args, *data)
        return jax.tree.map(lambda leaf: value, args)

    def passes(way: Callable[..., Any]) -> _Call:
        @jax.jit
        def program(args: Any, *rest: Any) -> Any:
            def again(_: Any, args: Any) -> Any:
                # each pass depends on the previous one, so that XLA computes all
                return jax.tree.map(lambda leaf, made: leaf + 1e-30 * made, args, way(args, *rest))

            return jax.lax.fori_loop(0, PASSES, again, args)

        return lambda: jax.block_until_ready(program((params, data[0]), *data[1:]))

    return {"forward": passes(forward), "forward_backward": passes(jax.grad(loss))}


def theirs(core: str, steps: int, batch: int, hidden: int) -> dict[str, _Call]:
    """Returns PyTorch's calls; none where it has no such core or is not installed."""
    try:
        import torch
    except ImportError:
        return {}
    kinds = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    if core not in kinds:
        return {}
    torch.set_num_threads(devices.cpu_cores())
    where = "cuda" if jax.default_backend() == "gpu" else "cpu"
    network = kinds[core](INPUTS, hidden, device=where)
    rng = np.random.default_rng(0)
    kind = {"dtype": torch.float32, "device": where}
    x = torch.tensor(rng.standard_normal((steps, batch, INPUTS)), **kind)
    weight = torch.tensor(rng.standard_normal((steps, batch, hidden)), **kind)
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
        if where == "cuda":
            torch.cuda.synchronize()
        return x.grad

    return {"torch_forward": forward, "torch_forward_backward": backward}


def measure(core: str, steps: int, batch: int, hidden: int, repeats: int) -> dict[str, Any]:
    calls = ours(core, steps, batch, hidden) | theirs(core, steps, batch, hidden)
    for call in calls.values():  # compilation and warm-up
        call()
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            passes = 1 if name.startswith("torch") else PASSES
            seconds[name].append((time.perf_counter() - start) / passes)
    row: dict[str, Any] = {"core": core, "T": steps, "B": batch, "H": hidden}
    row |= {f"{n}_ms": round(1e3 * statistics.median(s), 2) for n, s in seconds.items()}
    if "torch_forward_backward_ms" in row:
        row["ratio"] = round(row["forward_backward_ms"] / row["torch_forward_backward_ms"], 2)
    return row


def main(args: Sequence[str] | None = None) -> None:
    parser = machine.parser("kernels", "Milliseconds of the recurrent cores.", repeats=15)
    parser.add_argument("--core", nargs="+", choices=list(cores.CORES), default=list(cores.CORES))
    parser.add_argument("--size", nargs="+", default=list(SIZES), help="T,B,H")
    given = parser.parse_args(args)
    devices.from_cores()
    here = machine.machine()
    rows = []
    for size in given.size:
        for core in given.core:
            steps, batch, hidden = (int(part) for part in size.split(","))
            row = measure(core, steps, batch, hidden, given.repeats)
            rows.append(row)
            if not given.json:
                print(row, flush=True)
    if given.json:
        print(json.dumps(rows))
    machine.write(given.out, here, rows)


if __name__ == "__main__":
    main()
