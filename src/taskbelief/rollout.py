"""Meta-episodes: whole tasks played from the zero carry, side by side, in one scan.

The loop holds the task. Within a meta-episode the state is reset whenever an episode ends,
by itself or out of time; the task and the agent's carry go on.
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
    """A reference policy, unbatched; may look at state and task (the expert does)."""

    init: Callable[[Array], Any]  # (first observation) -> carry
    act: Callable[[Any, Key, State, Task], Array]  # (carry, key, state, task) -> action
    # (carry, obs, action, reward, next_obs) -> carry
    observe: Callable[[Any, Array, Array, Array, Array], Any]


def batch_size(tasks: Task) -> int:
    """B of a batch of tasks."""
    return jax.tree.leaves(tasks)[0].shape[0]


def take(tasks: Task, index: Array) -> Task:
    """The tasks at `index`, [B]."""
    return jax.tree.map(lambda leaf: leaf[index], tasks)


def no_action(spec: EnvSpec, batch: int) -> Array:
    """What stands for the previous action before the first: zeros, [B, num] or [B]."""
    if isinstance(spec.action, Continuous):
        return jnp.zeros((batch, spec.action.num))
    return jnp.zeros(batch, jnp.int32)


# (carry, inputs [1, B, ...], state [B, ...], key) -> (carry, action [B, ...], log_prob [B])
Select = Callable[[Any, AgentInput, State, Key], tuple[Any, Array, Array]]


class _Loop(NamedTuple):
    carry: Any
    taught: Any  # the teacher's carry
    state: State  # [B, ...]
    inputs: AgentInput  # [1, B, ...]


class _Keys(NamedTuple):
    """What a step is given."""

    step: Array  # [] int32: which one of the meta-episode
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
    """The loop before its first step, and what its steps are given, [T, ...]."""
    spec, batch = env.spec, batch_size(tasks)
    resets = spec.episodes_per_task > 1 or spec.terminates
    reset_key, act_key, scan_key = jax.random.split(key, 3)
    obs, state = jax.vmap(env.reset)(jax.random.split(reset_key, batch), tasks)
    first = AgentInput(
        obs=obs,
        prev_action=no_action(spec, batch),
        prev_reward=jnp.zeros(batch),
        episode_start=jnp.ones(batch, bool),
        task_start=jnp.ones(batch, bool),
        elapsed=jnp.zeros(batch, jnp.int32),
        reached=obs if resets else None,
    )
    if start is not None:
        carry = jax.vmap(start)(obs)
    taught = () if teach is None else jax.vmap(teach.init)(obs)
    loop = _Loop(carry, taught, state, _add_time(first))
    steps = jnp.arange(spec.task_steps)
    act_keys = jax.random.split(act_key, spec.task_steps)
    # all keys before the loop: making one takes as many operations as making thousands
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
    """One step of B meta-episodes: (the loop after it, what is recorded of it)."""
    spec, batch = env.spec, batch_size(tasks)
    resets = spec.episodes_per_task > 1 or spec.terminates
    carry, action, log_prob = select(loop.carry, loop.inputs, loop.state, keys.act)
    taught, h = loop.taught, ()
    if teach is not None:
        seen = jax.tree.map(lambda leaf: leaf[0], loop.inputs)
        taught, h = jax.vmap(teach.label)(taught, keys.label, seen, loop.state, tasks)
    obs, state, reward, terminated = jax.vmap(env.step)(keys.env, loop.state, action, tasks)
    dense = None
    if teach is not None and teach.reward is not None:
        dense = jax.vmap(teach.reward)(obs, tasks)
    if observe is not None:
        carry = observe(carry, loop.inputs.obs[0], action, reward, obs)
    if teach is not None:
        taught = jax.vmap(teach.observe)(taught, loop.inputs.obs[0], action, reward, obs)

    elapsed = loop.inputs.elapsed[0] + 1
    task_end = keys.step == spec.task_steps - 1
    out_of_time = (elapsed == spec.episode_steps) | task_end
    # After the last step nothing is reset: the bootstrap input is what came next.
    again = (terminated | out_of_time) & ~task_end

    def reset(fresh_and_old: tuple) -> tuple:
        fresh = jax.vmap(env.reset)(jax.random.split(keys.again, batch), tasks)
        return jax.tree.map(
            lambda new, old: jnp.where(_expand(again, new), new, old), fresh, fresh_and_old
        )

    # no environment of ours resets often: skip the work where none does. Where the clock alone
    # says so, meta-episodes on several devices need not ask each other.
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
    return _Loop(carry, taught, state, _add_time(inputs)), record


def _recorded(loop: _Loop, record: Any) -> Trajectory:
    """`loop` as it is after the last step, `record` [T, ...] of each."""
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
    """The one loop. `select` sees the state, so only this module's wrappers may give it."""
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
      act: the agent with its parameters; sees `AgentInput` and nothing else.
      carry: the zero carry, [B, ...].
      teach: labels each step, for the trajectory alone; None: labels are empty.
    """

    def select(carry: Carry, inputs: AgentInput, state: State, key: Key):
        del state
        return act(carry, inputs, key)

    return _play(env, tasks, key, carry, select, teach)


@functools.lru_cache(maxsize=16)
def _from_python(env: Env) -> tuple[Callable, Callable]:
    """(begin, advance), compiled: the same loop, a step at a time."""

    def begin(tasks: Task, key: Key) -> tuple[_Loop, _Keys]:
        return _begin(env, tasks, key, (), None)

    def advance(tasks: Task, loop: _Loop, keys: _Keys, t: Array, chosen: tuple) -> Any:
        now = jax.tree.map(lambda leaf: leaf[t], keys)
        return _advance(env, tasks, loop, now, lambda carry, *_: (carry, *chosen), None)

    return jax.jit(begin), jax.jit(advance)


def collect_from_python(
    env: Env, tasks: Task, key: Key, act: Callable[[Any, AgentInput, Key], Any], carry: Any
) -> Trajectory:
    """As `collect`, of the same chance, for an `act` that JAX cannot compile.

    Args:
      act: (carry, inputs [1, B, ...] as NumPy arrays, key) -> (carry, action [B, ...], log_prob).
      carry: whatever `act` is to be given first.
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
    """A reference policy that forgets: (key, state, task) -> action."""
    return Scripted(
        init=lambda obs: (),
        act=lambda carry, key, state, task: act(key, state, task),
        observe=lambda carry, obs, action, reward, next_obs: carry,
    )


def uniform_random(spec: EnvSpec) -> Scripted:
    """Uniform over the action space: score 0."""
    num = spec.action.num
    if isinstance(spec.action, Continuous):
        return memoryless(lambda key, *_: jax.random.uniform(key, (num,), minval=-1, maxval=1))
    return memoryless(lambda key, *_: jax.random.randint(key, (), 0, num))


def expert(env: Env) -> Scripted:
    """Knows the task: score 1.

    Raises:
      ValueError: nobody has scripted one.
    """
    if not isinstance(env, HasExpert):
        raise ValueError(f"{type(env).__name__} has no scripted expert (see types.HasExpert)")
    return memoryless(env.expert)


def _add_time(inputs: AgentInput) -> AgentInput:
    return jax.tree.map(lambda leaf: leaf[None], inputs)


def _expand(mask: Array, like: Array) -> Array:
    """`mask` [B] with axes of length 1 added, to broadcast against `like` [B, ...]."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))
