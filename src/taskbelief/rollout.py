"""Rollouts: meta-episodes from the zero carry, in parallel, in one scan.

The loop holds the task. Within a meta-episode the state is reset whenever an episode ends, by
termination or because time runs out; the task and the agent's carry continue.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.types import (
    AgentInput,
    Array,
    Carry,
    Continuous,
    Env,
    EnvSpec,
    HasExpert,
    Key,
    Label,
    State,
    Task,
    Teacher,
    Trajectory,
)

# (carry, inputs [1, B, ...], key) -> (carry, action [B, ...], log_prob [B])
Act = Callable[[Carry, AgentInput, Key], tuple[Carry, Array, Array]]


class Scripted(NamedTuple):
    """A reference policy, unbatched. It may depend on state and task (the expert does)."""

    init: Callable[[Array], Any]  # (first observation) -> carry
    act: Callable[[Any, Key, State, Task], Array]  # (carry, key, state, task) -> action
    # (carry, obs, action, reward, next_obs) -> carry
    observe: Callable[[Any, Array, Array, Array, Array], Any]


def batch_size(tasks: Task) -> int:
    """Returns B of a batch of tasks."""
    return jax.tree.leaves(tasks)[0].shape[0]


def take(tasks: Task, index: Array) -> Task:
    """Returns the tasks at `index`, [B]."""
    return jax.tree.map(lambda leaf: leaf[index], tasks)


# (carry, inputs [1, B, ...], state [B, ...], key) -> (carry, action [B, ...], log_prob [B])
Select = Callable[[Any, AgentInput, State, Key], tuple[Any, Array, Array]]


class _Loop(NamedTuple):
    carry: Any
    label_carry: Any
    state: State  # [B, ...]
    inputs: AgentInput  # [1, B, ...]


class _Keys(NamedTuple):
    """Inputs of one step of the loop."""

    step: Array  # [] int32: its number in the meta-episode
    act: Key
    env: Key  # [B]
    again: Key  # for resets
    label: Key  # [B]


def _begin(
    env: Env,
    tasks: Task,
    key: Key,
    carry: Any,
    teach: Teacher | None,
    start: Callable[[Array], Any] | None = None,
) -> tuple[_Loop, _Keys]:
    """Returns the loop before its first step, and the inputs of its steps, [T, ...]."""
    spec, batch = env.spec, batch_size(tasks)
    resets = spec.episodes_per_task > 1 or spec.terminates
    reset_key, act_key, scan_key = jax.random.split(key, 3)
    obs, state = jax.vmap(env.reset)(jax.random.split(reset_key, batch), tasks)
    first = AgentInput(
        obs=obs,
        prev_action=spec.action.none(batch),
        prev_reward=jnp.zeros(batch),
        episode_start=jnp.ones(batch, bool),
        task_start=jnp.ones(batch, bool),
        elapsed=jnp.zeros(batch, jnp.int32),
        reached=obs if resets else None,
    )
    if start is not None:
        carry = jax.vmap(start)(obs)
    label_carry = () if teach is None else jax.vmap(teach.init)(obs)
    loop = _Loop(carry, label_carry, state, _add_time(first))
    steps = jnp.arange(spec.task_steps)
    act_keys = jax.random.split(act_key, spec.task_steps)
    # All keys are made before the loop: one takes as many operations as thousands.
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(jax.random.split(scan_key, len(steps)))
    step_keys, label_keys = (
        jax.vmap(lambda key: jax.random.split(key, batch))(keys[:, place]) for place in (0, 2)
    )
    return loop, _Keys(steps, act_keys, step_keys, keys[:, 1], label_keys)


def _advance(
    env: Env,
    tasks: Task,
    loop: _Loop,
    keys: _Keys,
    select: Select,
    teach: Teacher | None,
    observe: Callable[..., Any] | None = None,
) -> tuple[_Loop, Any]:
    """Runs one step of B meta-episodes; returns (the loop after it, its record)."""
    spec, batch = env.spec, batch_size(tasks)
    resets = spec.episodes_per_task > 1 or spec.terminates
    carry, action, log_prob = select(loop.carry, loop.inputs, loop.state, keys.act)
    label_carry, h = loop.label_carry, ()
    if teach is not None:
        seen = jax.tree.map(lambda leaf: leaf[0], loop.inputs)
        label_carry, h = jax.vmap(teach.label)(label_carry, keys.label, seen, loop.state, tasks)
    obs, state, reward, terminated = jax.vmap(env.step)(keys.env, loop.state, action, tasks)
    dense = None
    if teach is not None and teach.reward is not None:
        dense = jax.vmap(teach.reward)(obs, tasks)
    if observe is not None:
        carry = observe(carry, loop.inputs.obs[0], action, reward, obs)
    if teach is not None:
        label_carry = jax.vmap(teach.observe)(label_carry, loop.inputs.obs[0], action, reward, obs)

    elapsed = loop.inputs.elapsed[0] + 1
    task_end = keys.step == spec.task_steps - 1
    out_of_time = (elapsed == spec.episode_steps) | task_end
    # No reset after the last step: the bootstrap input is the observation that follows it.
    again = (terminated | out_of_time) & ~task_end

    def reset(fresh_and_old: tuple) -> tuple:
        fresh = jax.vmap(env.reset)(jax.random.split(keys.again, batch), tasks)
        return jax.tree.map(
            lambda new, old: jnp.where(_expand(again, new), new, old), fresh, fresh_and_old
        )

    # Resets are rare, and skipped where no meta-episode needs one. Where they follow from the clock
    # alone, the condition needs no communication between devices.
    by_clock = (keys.step + 1) % spec.episode_steps == 0
    any_again = jnp.any(again) if spec.terminates else by_clock & ~task_end
    reached = obs if resets else None
    obs, state = jax.lax.cond(any_again, reset, lambda old: old, (obs, state))
    elapsed = jnp.where(again, 0, elapsed)
    inputs = AgentInput(obs, action, reward, again, jnp.zeros(batch, bool), elapsed, reached)
    record = (
        loop.inputs,
        action,
        log_prob,
        reward,
        terminated,
        terminated | out_of_time,
        jnp.broadcast_to(task_end, (batch,)),
        Label(h, dense, tasks if teach is not None and teach.task else None),
    )
    return _Loop(carry, label_carry, state, _add_time(inputs)), record


def _recorded(loop: _Loop, record: Any) -> Trajectory:
    """Returns the trajectory, from the `loop` after the last step and the `record` of all, [T,
    ...]."""
    inputs, action, log_prob, reward, terminated, episode_end, task_end, label = record
    inputs = jax.tree.map(
        lambda seen, last: jnp.concatenate([seen[:, 0], last]), inputs, loop.inputs
    )
    return Trajectory(inputs, action, log_prob, reward, terminated, episode_end, task_end, label)


def _play(
    env: Env,
    tasks: Task,
    key: Key,
    carry: Any,
    select: Select,
    teach: Teacher | None,
    start: Callable[[Array], Any] | None = None,
    observe: Callable[..., Any] | None = None,
) -> Trajectory:
    """Runs the loop. `select` sees the state, so only the functions of this module provide it."""
    loop, keys = _begin(env, tasks, key, carry, teach, start)
    return _recorded(
        *jax.lax.scan(
            lambda loop, now: _advance(env, tasks, loop, now, select, teach, observe), loop, keys
        )
    )


def collect(
    env: Env,
    tasks: Task,
    key: Key,
    act: Act,
    carry: Carry,
    teach: Teacher | None = None,
) -> Trajectory:
    """Plays one meta-episode on each of B tasks with an agent.

    Args:
      env: the environment.
      tasks: [B, ...], one for each meta-episode.
      key: consumed.
      act: the agent with its parameters; it sees `AgentInput` only.
      carry: the zero carry, [B, ...].
      teach: produces the labels of the trajectory; None: labels are empty.
    """

    def select(carry: Carry, inputs: AgentInput, state: State, key: Key):
        del state
        return act(carry, inputs, key)

    return _play(env, tasks, key, carry, select, teach)


@functools.lru_cache(maxsize=16)
def _from_python(env: Env) -> tuple[Callable, Callable]:
    """Returns (begin, advance), compiled: the same loop, one step at a time."""

    def begin(tasks: Task, key: Key) -> tuple[_Loop, _Keys]:
        return _begin(env, tasks, key, (), None)

    def advance(tasks: Task, loop: _Loop, keys: _Keys, t: Array, chosen: tuple) -> Any:
        now = jax.tree.map(lambda leaf: leaf[t], keys)
        return _advance(env, tasks, loop, now, lambda carry, *_: (carry, *chosen), None)

    return jax.jit(begin), jax.jit(advance)


def collect_from_python(
    env: Env, tasks: Task, key: Key, act: Callable[[Any, AgentInput, Key], Any], carry: Any
) -> Trajectory:
    """Plays like `collect`, with the same random numbers, for an `act` that JAX cannot compile.

    Args:
      act: (carry, inputs [1, B, ...] as NumPy arrays, key) -> (carry, action [B, ...], log_prob).
      carry: the first carry of `act`.
    """
    begin, advance = _from_python(env)
    loop, keys = begin(tasks, key)
    records = []
    for t in range(env.spec.task_steps):
        carry, *chosen = act(carry, jax.tree.map(np.asarray, loop.inputs), keys.act[t])
        loop, record = advance(tasks, loop, keys, np.int32(t), tuple(chosen))
        records.append(record)
    return _recorded(loop, jax.tree.map(lambda *leaves: jnp.stack(leaves), *records))


def collect_scripted(env: Env, tasks: Task, key: Key, policy: Scripted) -> Trajectory:
    """Plays one meta-episode on each of B tasks with a reference policy."""
    batch = batch_size(tasks)

    def select(carry: Any, inputs: AgentInput, state: State, key: Key):
        del inputs
        keys = jax.random.split(key, batch)
        return carry, jax.vmap(policy.act)(carry, keys, state, tasks), jnp.zeros(batch)

    return _play(env, tasks, key, (), select, None, policy.init, jax.vmap(policy.observe))


def memoryless(act: Callable[[Key, State, Task], Array]) -> Scripted:
    """Returns a reference policy without a carry, from (key, state, task) -> action."""
    return Scripted(
        init=lambda obs: (),
        act=lambda carry, key, state, task: act(key, state, task),
        observe=lambda carry, obs, action, reward, next_obs: carry,
    )


def uniform_random(spec: EnvSpec) -> Scripted:
    """Returns the policy that is uniform over the action space: score 0."""
    num = spec.action.num
    if isinstance(spec.action, Continuous):
        return memoryless(lambda key, *_: jax.random.uniform(key, (num,), minval=-1, maxval=1))
    return memoryless(lambda key, *_: jax.random.randint(key, (), 0, num))


def expert(env: Env) -> Scripted:
    """Returns the scripted expert, which knows the task: score 1.

    Raises:
      ValueError: the environment has no scripted expert.
    """
    if not isinstance(env, HasExpert):
        raise ValueError(f"{type(env).__name__} has no scripted expert (see types.HasExpert)")
    return memoryless(env.expert)


def _add_time(inputs: AgentInput) -> AgentInput:
    return jax.tree.map(lambda leaf: leaf[None], inputs)


def _expand(mask: Array, like: Array) -> Array:
    """Adds axes of length 1 to `mask` [B], so that it broadcasts against `like` [B, ...]."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))
