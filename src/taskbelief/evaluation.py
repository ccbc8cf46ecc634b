"""Evaluation: deterministic actions on fixed task sets, and scores against references."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.sharding import Mesh

from taskbelief import parallel, rollout
from taskbelief.types import Agent, Array, Env, Key, Learner, Params, Task, Teacher


class Evaluation(NamedTuple):
    """One meta-episode on each of K tasks."""

    returns: Array  # [K]
    quarters: Array  # [4, K]: return in each quarter of the meta-episode
    label_nll: Array | None  # [T, K] nats: of the label under the belief; None: it has no head
    sampled: Array  # [K]: returns of another meta-episode, with actions drawn from the policy


class References(NamedTuple):
    """Mean returns on a task set of policies to measure an agent against."""

    random: float  # uniformly random actions: score 0
    expert: float  # the scripted expert, which knows the task: score 1
    explorer: float | None  # the expert for the most probable task, which anyone could reach


def make(
    env: Env,
    agent: Agent,
    learner: Learner,
    teach: Teacher,
    batch: int = 256,
    mesh: Mesh | None = None,
) -> Callable[[Params, Task, Key], Evaluation]:
    """(params, K tasks, key) -> Evaluation, to be jitted.

    `env` is played as it is: pass `env.at_test()`. The tasks are played at most `batch` side
    by side, divided among the devices of `mesh` where they can be. The agent takes the mode of its
    policy, but for `Evaluation.sampled`: a deterministic policy without memory cannot leave a tie,
    and the difference tells it.
    """

    def play(params: Params, tasks: Task, key: Key) -> Evaluation:
        mode_key, sampled_key = jax.random.split(key)
        carry = agent.initial_carry(rollout.batch_size(tasks))
        trajectory = rollout.collect(
            env,
            tasks,
            mode_key,
            lambda carry, inputs, _: learner.act(params, carry, inputs, None),
            carry,
            teach,
        )
        sampled = rollout.collect(
            env,
            tasks,
            sampled_key,
            lambda carry, inputs, key: learner.act(params, carry, inputs, key),
            carry,
        )
        label_nll = None
        if agent.belief_log_prob is not None:
            inputs = jax.tree.map(lambda leaf: leaf[:-1], trajectory.inputs)
            _, features = agent.unroll(params["agent"], carry, inputs, None)
            label_nll = -agent.belief_log_prob(params["agent"], features, trajectory.label)
        return Evaluation(
            jnp.sum(trajectory.reward, axis=0),
            jnp.stack([jnp.sum(part, axis=0) for part in quarters(trajectory.reward)]),
            label_nll,
            jnp.sum(sampled.reward, axis=0),
        )

    def evaluate(params: Params, tasks: Task, key: Key) -> Evaluation:
        num = rollout.batch_size(tasks)
        chunks = -(-num // batch)
        width = -(-num // chunks)
        # the last chunk is filled up with the first tasks, whose results are then dropped
        index = (jnp.arange(chunks * width) % num).reshape(chunks, width)

        def chunk(xs: tuple[Array, Key]) -> Evaluation:
            index, key = xs
            part = rollout.take(tasks, index)
            if mesh is not None and width % mesh.size == 0:
                part = parallel.shard(part, mesh, 0)
            return play(params, part, key)

        played = jax.lax.map(chunk, (index, jax.random.split(key, chunks)))
        return jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 0, -2).reshape(*leaf.shape[1:-1], -1)[..., :num], played
        )

    return evaluate


def quarters(values: Array) -> list[Array]:
    """`values` [T, ...] in four parts along time, as equal as they can be."""
    return jnp.array_split(values, 4)


def part(evaluation: Evaluation, start: int, stop: int) -> Evaluation:
    """Of the tasks `start` to `stop`."""
    return jax.tree.map(lambda leaf: leaf[..., start:stop], evaluation)


def scores(evaluation: Evaluation, references: References | None) -> dict[str, float]:
    """Means over the tasks, by name.

    Without `references` there are no scores. `score` is 0 for the random policy and 1 for the
    expert, `score_low` and `score_high` are its 95 % bootstrap interval over tasks;
    `score_over_explorer` is the share of the explorer's. Actions are the mode of the policy, but
    for `return_sampled` and `score_sampled`.
    """
    returns = np.asarray(evaluation.returns, np.float64)
    named = {"return": float(np.mean(returns))}
    named["return_sampled"] = float(np.mean(np.asarray(evaluation.sampled, np.float64)))
    if references is not None:
        low, high = interval(returns)
        named["score"] = normalise(named["return"], references)
        named["score_low"] = normalise(low, references)
        named["score_high"] = normalise(high, references)
        named["score_sampled"] = normalise(named["return_sampled"], references)
        if references.explorer is not None:
            reach = normalise(references.explorer, references)
            named["score_over_explorer"] = named["score"] / reach
    for number, quarter in enumerate(np.mean(np.asarray(evaluation.quarters), axis=1), start=1):
        named[f"return_quarter_{number}"] = float(quarter)
    if evaluation.label_nll is not None:
        nll = np.mean(np.asarray(evaluation.label_nll), axis=1)
        named["label_nll"] = float(np.mean(nll))
        for number, quarter in enumerate(np.array_split(nll, 4), start=1):
            named[f"label_nll_quarter_{number}"] = float(np.mean(quarter)) if quarter.size else 0.0
    return named


def normalise(value: float, references: References) -> float:
    """A mean return as a score: 0 is the random policy's, 1 the expert's."""
    return (value - references.random) / (references.expert - references.random)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `values` [K]; the same every time."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(np.mean(values)), float(np.mean(values))
    found = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
