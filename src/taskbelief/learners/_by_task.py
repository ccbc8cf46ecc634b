"""Transitions of each training task, on the device: what a learner of many tasks remembers.

Tasks are played in turn, so that none is older than others. An update reads, for some tasks,
transitions from all of the task's history to learn actor and critic from, and transitions of its
latest meta-episode alone to infer the task from: PEARL's two buffers for each task, of which the
second is emptied whenever the task is played. What it is inferred from is of the first episodes,
of any number up to all, as it is when acting.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from taskbelief.types import Array, Key, ReplayKind, Trajectory, Transition


class ByTask(NamedTuple):
    rows: Transition  # [rings, tasks of each, meta-episodes of a task, T, ...]
    played: Array  # [] int32: meta-episodes that each ring has got so far


class Sample(NamedTuple):
    """Of N tasks, drawn apart. What is recent may come up in both, as it is in both of PEARL's
    buffers."""

    batch: Transition  # [n, N, ...]: of the task's whole history, to learn from
    context: Transition  # [C, N, ...]: of its latest meta-episode so far, to infer the task from


def replay(num_tasks: int, transitions: int, context: int, episode_steps: int) -> ReplayKind:
    """A replay of `num_tasks` training tasks that gives, for each task of an update, `transitions`
    to learn from and `context` to infer from, drawn with replacement and with keys apart.
    `episode_steps` divides a meta-episode.

    As in replay.py, it is one ring or several; each holds an equal part of the tasks, of every task
    the newest meta-episodes. `init`'s capacity is divided among tasks and rounded up.
    """

    def init(capacity: int, example: Trajectory, rings: int = 1) -> ByTask:
        own = _divide(num_tasks, rings, "tasks to train on")
        kept = -(-capacity // num_tasks)
        rows = jax.tree.map(
            lambda leaf: jnp.zeros((rings, own, kept, leaf.shape[0], *leaf.shape[2:]), leaf.dtype),
            jax.eval_shape(transitions_of, example),
        )
        return ByTask(rows, jnp.zeros((), jnp.int32))

    def tasks(buffer: ByTask, num: int) -> Array:
        rings, own = buffer.rows.reward.shape[:2]
        turn = _turn(buffer, num) % own
        return (jnp.arange(rings)[:, None] * own + turn).reshape(num)

    def add(buffer: ByTask, batch: Trajectory) -> ByTask:
        """Over the oldest meta-episodes of the tasks whose turn it is, which `batch` is of."""
        rings, own, kept = buffer.rows.reward.shape[:3]
        turn = _turn(buffer, batch.reward.shape[1])

        def write(ring: Array, new: Array) -> Array:
            new = jnp.moveaxis(new, 0, 1).reshape(rings, len(turn), *ring.shape[3:])
            return ring.at[:, turn % own, turn // own % kept].set(new)

        rows = jax.tree.map(write, buffer.rows, transitions_of(batch))
        return ByTask(rows, buffer.played + len(turn))

    def sample(buffer: ByTask, key: Key, num: int) -> Sample:
        task_key, batch_key, length_key, context_key = jax.random.split(key, 4)
        rings, own, kept, steps = buffer.rows.reward.shape[:4]
        each = _divide(num, rings, "tasks in an update")
        task = jax.random.randint(task_key, (rings, each), 0, jnp.minimum(own, buffer.played))
        times = (buffer.played - task + own - 1) // own  # that the task has been played
        size = jnp.minimum(times, kept) * steps
        drawn = jax.random.randint(batch_key, (transitions, rings, each), 0, size)
        episodes = jax.random.randint(length_key, task.shape, 1, steps // episode_steps + 1)
        told = jax.random.randint(context_key, (context, *task.shape), 0, episodes * episode_steps)

        def read(row: Array, step: Array) -> Transition:
            def of_ring(ring: Array) -> Array:
                found = jax.vmap(
                    lambda rows, task, row, step: rows[task, row, step], (0, 0, 1, 1), 1
                )(ring, task, row, step)
                return found.reshape(len(step), num, *ring.shape[4:])

            return jax.tree.map(of_ring, buffer.rows)

        latest = jnp.broadcast_to((times - 1) % kept, told.shape)
        return Sample(read(drawn // steps, drawn % steps), read(latest, told))

    def _turn(buffer: ByTask, num: int) -> Array:
        rings, own = buffer.rows.reward.shape[:2]
        each = _divide(num, rings, "a batch")
        if each > own:
            raise ValueError(
                f"train.envs {num}: must be at most the {rings * own} tasks to train on, which are"
                " played in turn"
            )
        return buffer.played + jnp.arange(each)

    return ReplayKind(init, add, sample, tasks)


def transitions_of(played: Trajectory) -> Transition:
    """Every step of [T, B] by itself; what it led to is what came before a reset."""
    inputs = played.inputs
    led_to = inputs.obs if inputs.reached is None else inputs.reached
    return Transition(
        inputs.obs[:-1],
        played.action,
        played.reward,
        played.learning_reward,
        led_to[1:],
        played.terminated,
    )


def _divide(num: int, rings: int, what: str) -> int:
    if num % rings:
        raise ValueError(f"{what}, {num}: must be a multiple of train.shards {rings}")
    return num // rings
