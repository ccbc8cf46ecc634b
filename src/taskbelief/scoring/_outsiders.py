"""Policies from elsewhere: their forms, and how they are played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import evaluation, rollout, view
from taskbelief.evaluation import Tally
from taskbelief.scoring import _beliefs
from taskbelief.types import AgentInput, Array, Continuous, Discrete, Env, Key, Task, Trajectory


class Played(NamedTuple):
    """One meta-episode of T steps on each of K tasks, and what beliefs are worth, if any."""

    returns: np.ndarray  # [K]
    rewards: np.ndarray  # [T, K]
    nll: np.ndarray | None = None  # [T, K]
    kl: np.ndarray | None = None  # [T, K]
    tally: Tally | None = None


Collect = Callable[[Task, Key], Trajectory]  # the trajectory has beliefs for log_prob


def find(env: Env, policy: Any, compiled: bool, history: bool) -> tuple[str, Collect]:
    """Returns the name of the policy, and the function that plays it.

    Raises:
      ValueError: it has none of the forms of `taskbelief.score`.
    """
    if isinstance(policy, tuple) and len(policy) == 2 and all(map(callable, policy)):
        init, step = policy
        called = getattr(step, "__name__", "policy").strip("<>")
        return called, _pair(env, init, step, compiled, history)
    if callable(getattr(policy, "predict", None)):
        return type(policy).__name__, _pair(env, _no_carry, _predicts(policy), False, history)
    if callable(policy) and not isinstance(policy, type):
        called = getattr(policy, "__name__", type(policy).__name__).strip("<>")

        def step(carry: Any, obs: np.ndarray, key: Key) -> tuple[Any, Any]:
            return carry, policy(obs)

        return called, _pair(env, _no_carry, step, False, history)
    raise ValueError(
        "policy: must be a name, (init, step), a model with predict, a function of observations or"
        f" an agent of this library, not {type(policy).__name__}"
    )


def _no_carry(num: int) -> None:
    return None


def _predicts(model: Any) -> Callable:
    """`step` of a model with SB3's `predict`, whose episode is the meta-episode."""

    def step(carry: Any, obs: np.ndarray, key: Key) -> tuple[Any, Any]:
        begun = np.full(len(obs), carry is None)
        state = None if carry is None else carry[0]
        actions, state = model.predict(obs, state=state, episode_start=begun, deterministic=True)
        return (state,), actions

    return step


def _pair(env: Env, init: Callable, step: Callable, compiled: bool, history: bool) -> Collect:
    spec = env.spec

    def act(carry: Any, inputs: AgentInput, key: Key) -> tuple[Any, Any, Any]:
        now = jax.tree.map(lambda leaf: leaf[0], inputs)
        obs = view.observe(spec, now) if history else now.obs
        found = step(carry, obs if compiled else np.asarray(obs), key)
        if not isinstance(found, tuple) or len(found) not in (2, 3):
            said = f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__
            raise ValueError(
                f"step: must return (carry, actions) or (carry, actions, belief), not {said}"
            )
        carry, actions, *belief = found
        actions = _actions(env, actions, len(obs))
        return carry, actions, _beliefs.read(env.spec.task, belief[0], len(obs)) if belief else ()

    def by_jax(tasks: Task, key: Key) -> Trajectory:
        carry = jax.tree.map(jnp.asarray, init(rollout.batch_size(tasks)))
        return rollout.collect(env, tasks, key, _steady(act, carry), carry)

    def by_python(tasks: Task, key: Key) -> Trajectory:
        carry = init(rollout.batch_size(tasks))
        return rollout.collect_from_python(env, tasks, key, act, carry)

    return jax.jit(by_jax) if compiled else by_python


def _steady(act: Callable, carry: Any) -> Callable:
    """Refuses a step that changes the form of its carry, before JAX does."""
    form = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), carry)

    def steady(carry: Any, inputs: AgentInput, key: Key) -> tuple[Any, Any, Any]:
        try:
            carry, actions, belief = act(carry, inputs, key)
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise ValueError(
                "step: JAX cannot compile it; compiled=False calls it from Python"
            ) from error
        carry = jax.tree.map(jnp.asarray, carry)
        found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), carry)
        if found != form:
            raise ValueError(f"step: the carry has another form than init's: {found}, not {form}")
        return carry, actions, belief

    return steady


def _actions(env: Env, actions: Any, num: int) -> Array:
    """Of the right shape and type; continuous ones in [-1, 1]. Values are looked at later."""
    spec = env.spec.action
    actions = actions if isinstance(actions, jax.Array) else np.asarray(actions)
    wanted = (num,) if isinstance(spec, Discrete) else (num, spec.num)
    kind = jnp.integer if isinstance(spec, Discrete) else jnp.floating
    if actions.shape != wanted or not jnp.issubdtype(actions.dtype, kind):
        said = "whole numbers" if isinstance(spec, Discrete) else "real numbers"
        raise ValueError(
            f"actions: must be {said} of shape {wanted}, not {actions.dtype} of {actions.shape}"
        )
    if isinstance(spec, Continuous):
        return jnp.clip(jnp.asarray(actions, jnp.float32), -1.0, 1.0)
    return jnp.asarray(actions, jnp.int32)


def _check_values(env: Env, actions: np.ndarray) -> None:
    spec = env.spec.action
    if isinstance(spec, Discrete):
        if actions.min() < 0 or actions.max() >= spec.num:
            wrong = actions[(actions < 0) | (actions >= spec.num)][0]
            raise ValueError(f"actions: must be 0 ... {spec.num - 1}, and one was {wrong}")
    elif not np.isfinite(actions).all():
        raise ValueError("actions: one was not a number")


def play(env: Env, collect: Collect, tasks: Task, key: Key, batch: int) -> Played:
    """Plays `tasks` [K, ...], `batch` side by side.

    Raises:
      ValueError: of actions or beliefs without meaning.
    """
    num = rollout.batch_size(tasks)
    index = evaluation.chunked(num, batch)
    judge = None
    parts = []
    for chunk, chunk_key in zip(index, jax.random.split(key, len(index)), strict=True):
        play_key, judge_key = jax.random.split(chunk_key)
        own = rollout.take(tasks, chunk)
        played = collect(own, play_key)
        _check_values(env, np.asarray(played.action))
        told: tuple = (None, None, None)
        if jax.tree.leaves(played.log_prob):
            played.log_prob.check()
            judge = judge or _beliefs.judge(env, played.log_prob)
            told = judge(own, played, judge_key)
        rewards = played.reward
        parts.append(jax.device_get((rewards.sum(axis=0), rewards, *told)))
    joined: Any = (
        None
        if part[0] is None
        else jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1)[..., :num], *part)
        for part in zip(*parts, strict=True)
    )
    returns, rewards, nll, kl, tally = joined
    if tally is not None:
        tally = Tally(*(each.sum(axis=-1) for each in tally))
    return Played(returns, rewards, nll, kl, tally)
