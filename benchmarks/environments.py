"""Measures steps per second of every environment, and of its nearest peers in the same run.

    python -m benchmarks.environments                    all, batches of 1 to 65,536
    python -m benchmarks.environments --env numpad --batches 4096

Random actions, drawn inside the compiled loop; a step is an agent step. Compilation is timed
separately; run times are medians. Each environment is measured alone (`step` without resets,
because the library's loop resets whole batches at once), and through the gymnax adapter, whose
`step` includes the auto-reset like gymnax's own: only the latter is comparable with peers. Peers
are gymnax's BernoulliBandit and PointRobot and Brax's half-cheetah, where installed. Single figures
vary by 20 % and more on a shared machine, ratios of one run less.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import taskbelief
from benchmarks.machine import machine
from taskbelief.types import Array, Continuous, Key

BATCHES = (1, 16, 256, 4096, 65_536)
# steps of one timed run, over the whole batch: about a second
STEPS = {"cheetah_velocity": 2_000, "brax halfcheetah": 2_000}
LARGEST = {"cheetah_velocity": 1024, "brax halfcheetah": 1024}  # larger batches take minutes


class Subject(NamedTuple):
    """An environment to measure, as unbatched functions."""

    reset: Callable[[Key], Any]  # -> state
    step: Callable[[Key, Any, Array], tuple[Any, Array, Array]]  # -> state, obs, reward
    actions: Callable[[Key, int], Array]  # a batch of random actions
    substeps: int  # of physics in an agent step


def subjects(names: list[str]) -> dict[str, Subject]:
    """Returns the environments `names`, each followed by its peers."""
    found: dict[str, Subject] = {}
    for name in names:
        found[name] = _bare(name)
        if name != "cheetah_velocity":
            found |= _if_installed(f"{name} (gymnax adapter)", functools.partial(_adapted, name))
        if name == "bandit":
            found |= _if_installed(
                "gymnax BernoulliBandit", lambda: _gymnax("BernoulliBandit-misc")
            )
        if name == "sparse_navigation":
            found |= _if_installed("gymnax PointRobot", lambda: _gymnax("PointRobot-misc"))
        if name == "cheetah_velocity":
            found |= _if_installed("brax halfcheetah", _brax)
    return found


def _if_installed(name: str, build: Callable[[], Subject]) -> dict[str, Subject]:
    try:
        return {name: build()}
    except ImportError as error:
        print(f"without {name}: {error}")
        return {}


def _substeps(env: Any) -> int:
    return getattr(env, "substeps", getattr(env, "action_repeat", 1))


def _bare(name: str) -> Subject:
    env = taskbelief.make(name)

    def reset(key: Key) -> Any:
        task = env.sample_task(key)
        return env.reset(key, task)[1], task

    def step(key: Key, state: Any, action: Array) -> tuple[Any, Array, Array]:
        inner, task = state
        obs, inner, reward, _ = env.step(key, inner, action, task)
        return (inner, task), obs, reward

    num = env.spec.action.num
    continuous = isinstance(env.spec.action, Continuous)
    return Subject(reset, step, _directions(num) if continuous else _choices(num), _substeps(env))


def _adapted(name: str) -> Subject:
    from taskbelief.adapters import gymnax as adapter

    env, params = adapter.make(name)
    bare = _bare(name)

    def reset(key: Key) -> Any:
        return env.reset(key, params)[1]

    def step(key: Key, state: Any, action: Array) -> tuple[Any, Array, Array]:
        obs, state, reward, *_ = env.step(key, state, action, params)
        return state, obs, reward

    return Subject(reset, step, bare.actions, bare.substeps)


def _gymnax(name: str) -> Subject:
    import gymnax

    env, params = gymnax.make(name)

    def step(key: Key, state: Any, action: Array) -> tuple[Any, Array, Array]:
        obs, state, reward, *_ = env.step(key, state, action, params)
        return state, obs, reward

    if name == "PointRobot-misc":
        force = params.max_force
        return Subject(
            lambda key: env.reset(key, params)[1],
            step,
            lambda key, batch: force * _directions(2)(key, batch),
            1,
        )
    return Subject(lambda key: env.reset(key, params)[1], step, _choices(env.num_actions), 1)


def _brax() -> Subject:
    from brax import envs

    env = envs.get_environment("halfcheetah", backend="spring")

    def step(key: Key, state: Any, action: Array) -> tuple[Any, Array, Array]:
        del key
        state = env.step(state, action)
        return state, state.obs, state.reward

    return Subject(env.reset, step, _directions(6), 1)


def _directions(num: int) -> Callable[[Key, int], Array]:
    return lambda key, batch: jax.random.uniform(key, (batch, num), minval=-1, maxval=1)


def _choices(num: int) -> Callable[[Key, int], Array]:
    return lambda key, batch: jax.random.randint(key, (batch,), 0, num)


def measure(subject: Subject, batch: int, steps: int, repeats: int) -> dict[str, float]:
    """Measures seconds of compilation, and agent steps per second of the whole `batch`."""

    def run(states: Any, key: Key) -> tuple[Any, Array, Array]:
        def body(carry: tuple[Any, Array, Array], key: Key) -> tuple[Any, None]:
            states, seen, earned = carry
            act_key, step_key = jax.random.split(key)
            actions = subject.actions(act_key, batch)
            keys = jax.random.split(step_key, batch)
            states, obs, reward = jax.vmap(subject.step)(keys, states, actions)
            # a sum of the observations, so that XLA computes them
            return (states, seen + jnp.sum(obs), earned + jnp.sum(reward)), None

        zero = jnp.zeros(())
        return jax.lax.scan(body, (states, zero, zero), jax.random.split(key, steps))[0]

    states = jax.jit(jax.vmap(subject.reset))(jax.random.split(jax.random.key(0), batch))
    start = time.perf_counter()
    compiled = jax.jit(run).lower(states, jax.random.key(0)).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(states, jax.random.key(0)))  # warm-up
    seconds = []
    for repeat in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(states, jax.random.key(repeat)))
        seconds.append(time.perf_counter() - start)
    return {
        "compile_seconds": round(compile_seconds, 2),
        "steps_per_second": float(f"{batch * steps / statistics.median(seconds):.4g}"),
        "fastest": float(f"{batch * steps / min(seconds):.4g}"),
        "slowest": float(f"{batch * steps / max(seconds):.4g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps per second of the environments.")
    parser.add_argument("--env", nargs="*", choices=taskbelief.environments(), default=None)
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/<platform>/")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="brax|jaxopt")
    whole = not arguments.env and tuple(arguments.batches) == BATCHES
    report: dict[str, Any] = {"machine": machine(), "results": []}
    print(json.dumps(report["machine"]))
    print(f"{'':34}{'batch':>8}{'compile s':>11}{'steps/s':>14}{'substeps/s':>14}")
    found = subjects(arguments.env or list(taskbelief.environments()))
    for batch in arguments.batches:
        for name, subject in found.items():
            if batch > LARGEST.get(name, batch):
                continue
            steps = max(8, min(1000, STEPS.get(name, 1_000_000) // batch))
            result = measure(subject, batch, steps, arguments.repeats)
            report["results"].append(
                {"subject": name, "batch": batch, "substeps": subject.substeps} | result
            )
            speed = result["steps_per_second"]
            print(
                f"{name:34}{batch:8,}{result['compile_seconds']:11.2f}"
                f"{speed:14,.0f}{speed * subject.substeps:14,.0f}",
                flush=True,
            )
    report["bars"] = bars(report["results"])
    for bar, ratio in report["bars"].items():
        print(f"{bar}: {ratio:.2f}")
    out = arguments.out
    if out is None and whole:
        folder = Path(__file__).parent / "results" / jax.default_backend()
        out = folder / "environments.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n")
        print(out)


def bars(results: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the ratios that the suite guarantees at the best batch: at least 1 (cheetah:
    0.95)."""

    @functools.cache
    def best(name: str, per_substep: bool = False) -> float:
        return max(
            (
                row["steps_per_second"] * (row["substeps"] if per_substep else 1)
                for row in results
                if row["subject"] == name
            ),
            default=0.0,
        )

    ratios = {}
    for ours, theirs in [
        ("bandit (gymnax adapter)", "gymnax BernoulliBandit"),
        ("sparse_navigation (gymnax adapter)", "gymnax PointRobot"),
        ("semicircle (gymnax adapter)", "gymnax PointRobot"),
        ("cheetah_velocity", "brax halfcheetah"),
    ]:
        if best(ours) and best(theirs):
            ratios[f"{ours} / {theirs}, substeps"] = round(best(ours, True) / best(theirs), 3)
    if best("numpad"):
        ratios["numpad / 2M steps per second"] = round(best("numpad") / 2e6, 3)
    return ratios


if __name__ == "__main__":
    main()
