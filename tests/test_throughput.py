"""Tests of the throughput benchmark: its operation counts, and that it runs."""

import json

import jax
import jax.numpy as jnp

from benchmarks import throughput
from tests.experiments import tiny


def test_products_are_counted_as_often_as_they_run():
    weights = jnp.ones((8, 8))

    def program(x):
        def step(x, _):
            return jax.lax.cond(x[0, 0] > 0, lambda x: x @ weights, lambda x: x, x), None

        return jax.jit(lambda x: jax.lax.scan(step, x, length=5)[0])(x @ weights)

    once = 2 * 4 * 8 * 8
    assert throughput.flops(jax.make_jaxpr(program)(jnp.ones((4, 8))).jaxpr) == 6 * once


def test_one_line_with_all_figures(tmp_path, capsys):
    flags = ["--", *tiny.SIZES, "--steps", str(3 * tiny.ITERATION)]
    throughput.main([*tiny.PARTS, "--json", "--repeats", "1", "--out", str(tmp_path / "t"), *flags])
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["env"] == "bandit" and row["batch"] == 4 and row["steps"] == 100
    for name in (*throughput.RATES, "update_gflop", "share_of_peak", "peak_memory_bytes"):
        assert row[name] > 0, name
    assert json.loads((tmp_path / "t").read_text())["results"] == [row]
