"""Evaluation: what policies earn on fixed task sets, and scores against references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from taskbelief import parallel, rollout
from taskbelief.types import Agent, Array, Env, Key, Learner, Params, Task, Teacher


class Evaluation(NamedTuple):
    """One meta-episode on each of K tasks."""

    returns: Array  # [K]
    quarters: Array  # [4, K]: return in each quarter of the meta-episode
    label_nll: Array | None  # [T, K] nats: of the label under the belief; None: it has no head
    sampled: Array | None  # [K]: returns of another meta-episode, with actions drawn from the
    # policy; None: it was not asked
    rewards: Array | None = None  # [T, K]; None: not kept


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
    """Returns the function (params, K tasks, key) -> Evaluation, to be jitted.

    `env` is played as it is: pass `env.at_test()`. The tasks are played at most `batch` side
    by side, divided among the devices of `mesh` where they can be. The agent takes the mode of its
    policy, except for `Evaluation.sampled`: a deterministic policy without memory cannot leave a
    tie, and the difference shows it.
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
            trajectory.reward,
        )

    def evaluate(params: Params, tasks: Task, key: Key) -> Evaluation:
        num = rollout.batch_size(tasks)
        index = jnp.asarray(chunked(num, batch))
        chunks, width = index.shape

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


def chunked(num: int, batch: int) -> np.ndarray:
    """Returns the indices of `num` tasks in chunks of at most `batch`, [chunks, width].

    The last chunk is filled up with the first tasks, whose results have to be dropped.
    """
    chunks = -(-num // batch)
    width = -(-num // chunks)
    return (np.arange(chunks * width) % num).reshape(chunks, width)


class Tally(NamedTuple):
    """Sums over probabilities that beliefs have stated, [N] each: of the probabilities, of how
    often they came true, and their number. The quotients are a `card.Calibration`."""

    said: Array
    found: Array
    count: Array


_BINS = 10


def tally_classes(probs: Array, h: Array) -> Tally:
    """Tallies beliefs `probs` [..., classes] about true classes `h` [...], in ten bins."""
    hits = jax.nn.one_hot(h, probs.shape[-1]).reshape(-1)
    probs = probs.reshape(-1)
    bins = jnp.clip((probs * _BINS).astype(jnp.int32), 0, _BINS - 1)
    sums = (jnp.zeros(_BINS).at[bins].add(each) for each in (probs, hits, jnp.ones_like(probs)))
    return Tally(*sums)


def tally_numbers(cumulative: Array) -> Tally:
    """Tallies beliefs about numbers: how often the true number lies within the central intervals of
    masses 0.1 to 0.9. `cumulative` [...]: the belief's mass below the true number."""
    masses = jnp.arange(1, _BINS) / _BINS
    cumulative = cumulative.reshape(-1, 1)
    within = jnp.sum(jnp.abs(2.0 * cumulative - 1.0) <= masses, axis=0, dtype=jnp.float32)
    count = jnp.full(_BINS - 1, float(cumulative.size))
    return Tally(masses * count, within, count)


def calibration(
    env: Env, agent: Agent, learner: Learner, teach: Teacher
) -> Callable[[Params, Task, Key], Tally] | None:
    """Returns the function (params, K tasks, key) -> Tally of the agent's beliefs, along a
    meta-episode on each task with deterministic actions, to be jitted; None: it has no beliefs."""
    mean, cdf = agent.belief_mean, agent.belief_cdf
    if mean is None:
        return None

    def calibrate(params: Params, tasks: Task, key: Key) -> Tally:
        carry = agent.initial_carry(rollout.batch_size(tasks))
        played = rollout.collect(
            env,
            tasks,
            key,
            lambda carry, now, _: learner.act(params, carry, now, None),
            carry,
            teach,
        )
        inputs = jax.tree.map(lambda leaf: leaf[:-1], played.inputs)
        _, features = agent.unroll(params["agent"], carry, inputs, None)
        if cdf is not None:
            return tally_numbers(cdf(params["agent"], features, played.label))
        return tally_classes(mean(params["agent"], features), played.label.h)

    return calibrate


def quarters(values: Array) -> list[Array]:
    """Returns `values` [T, ...] in four parts along time, of nearly equal length."""
    return jnp.array_split(values, 4)


def part(evaluation: Evaluation, start: int, stop: int) -> Evaluation:
    """Returns the evaluation of the tasks `start` to `stop` alone."""
    return jax.tree.map(lambda leaf: leaf[..., start:stop], evaluation)


def references(means: Mapping[str, float]) -> References | None:
    """Returns the references of scores, from mean returns by name; None: there is no expert, or it
    earns no more than random actions, so that returns take the place of scores."""
    if "expert" not in means or means["expert"] <= means["random"]:
        return None
    return References(means["random"], means["expert"], means.get("explorer"))


def normalise(value: float, references: References) -> float:
    """Returns a mean return as a score: 0 is the random policy's, 1 the expert's."""
    return (value - references.random) / (references.expert - references.random)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of the mean of `values` [K]; it is the same at
    each call."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(np.mean(values)), float(np.mean(values))
    # not scipy.stats.bootstrap, whose import takes nearly as long as JAX's
    drawn = np.random.default_rng(0).integers(0, len(values), (1000, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
