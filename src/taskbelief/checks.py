"""Checks of an environment against its spec, for authors of environments and contract tests."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import types
from taskbelief.types import (
    Array,
    Categories,
    Continuous,
    Env,
    EnvSpec,
    HasDenseReward,
    HasExpert,
    HasGoal,
    HasInformativeStart,
    HasLikelihood,
    Key,
    LabelSpec,
    Probabilities,
    Task,
)


def check_env(env: Env, steps: int = 100) -> None:
    """Plays `steps` random steps and checks `env` against its spec.

    Raises:
      ValueError: the first violation, in one sentence.
    """
    spec = env.spec
    _require(isinstance(spec, EnvSpec), "spec is no taskbelief.types.EnvSpec")
    try:
        hash(env)
    except TypeError as error:
        raise ValueError(f"{_name(env)}: cannot be hashed; make it a frozen dataclass") from error
    _require(
        type(env).__eq__ is not object.__eq__, "two of equal settings differ: a dataclass", env
    )
    _check_tasks(env)
    task, obs, state, action, reward, next_obs = _check_walk(env, steps)
    _check_capabilities(env, task, obs, state, action, reward, next_obs)
    _require(
        types.at_test(env).spec.obs_dim == spec.obs_dim, "at_test: has other observations", env
    )


def _check_tasks(env: Env) -> None:
    spec = env.spec
    sets = {split: env.task_set(split) for split in ("train", "holdout")}
    drawn = jax.eval_shape(env.sample_task, jax.random.key(0))
    for split, tasks in sets.items():
        one = jax.eval_shape(lambda tasks=tasks: jax.tree.map(lambda leaf: leaf[0], tasks))
        _same(env, f'task_set("{split}") holds other tasks than sample_task draws', one, drawn)
        h = np.asarray(jax.vmap(env.describe)(tasks))
        _check_label(env, "describe", spec.task, h[0])
        _require(
            len({tuple(np.ravel(row).tolist()) for row in h}) == len(h),
            f'task_set("{split}") has a task twice',
            env,
        )
        few = env.task_set(split, 1)
        first = jax.tree.map(lambda leaf: np.asarray(leaf)[:1], tasks)
        _require(_equal(few, first), f'task_set("{split}", 1) is not the first of its tasks', env)
    labels = [
        {tuple(np.ravel(row).tolist()) for row in np.asarray(jax.vmap(env.describe)(tasks))}
        for tasks in sets.values()
    ]
    _require(not labels[0] & labels[1], "training and hold-out tasks overlap", env)


def _check_walk(env: Env, steps: int) -> tuple[Any, ...]:
    """Plays random steps; returns (task, obs, state, action, reward, next obs) of the first."""
    spec = env.spec
    task_key, reset_key, walk_key = jax.random.split(jax.random.key(0), 3)
    task = env.sample_task(task_key)
    start = jax.eval_shape(env.reset, reset_key, task)
    action_of = jax.eval_shape(lambda key: _random_action(spec, key), walk_key)
    after = jax.eval_shape(env.step, walk_key, start[1], action_of, task)
    _array(env, "the observation of reset", start[0], (spec.obs_dim,), jnp.float32)
    _array(env, "the observation of step", after[0], (spec.obs_dim,), jnp.float32)
    _array(env, "the reward", after[2], (), jnp.float32)
    _array(env, "terminated", after[3], (), jnp.bool_)
    _same(env, "step returns another kind of state than reset", after[1], start[1])

    @jax.jit
    def walk(key: Key) -> tuple[Any, ...]:
        first, state = env.reset(reset_key, task)

        def step(carry: tuple[Array, Any], key: Key) -> tuple[Any, Any]:
            obs, state = carry
            act_key, step_key = jax.random.split(key)
            action = _random_action(spec, act_key)
            next_obs, after, reward, terminated = env.step(step_key, state, action, task)
            return (next_obs, after), (obs, state, action, reward, next_obs, terminated)

        return jax.lax.scan(step, (first, state), jax.random.split(key, steps))[1]

    found = walk(walk_key)
    _require(_equal(found, walk(walk_key)), "the same key gives another walk", env)
    obs, state, action, reward, next_obs, terminated = found
    _require(bool(np.all(np.isfinite(next_obs))), "an observation is not finite", env)
    if spec.obs_range:
        least, greatest = np.asarray(spec.obs_range, np.float32).T
        _require(len(least) == spec.obs_dim, "spec.obs_range has another length than obs_dim", env)
        seen = np.asarray(next_obs)
        _require(
            bool(np.all((seen >= least - 1e-4) & (seen <= greatest + 1e-4))),
            "an observation is outside spec.obs_range",
            env,
        )
    low, high = spec.reward_range
    _require(
        bool(np.all((np.asarray(reward) >= low) & (np.asarray(reward) <= high))),
        f"a reward is outside spec.reward_range {spec.reward_range}",
        env,
    )
    _require(
        spec.terminates or not np.any(terminated), "terminates, and the spec says it does not", env
    )
    first = (jax.tree.map(lambda leaf: leaf[0], x) for x in (obs, state, action, reward, next_obs))
    return task, *first


def _check_capabilities(
    env: Env, task: Task, obs: Array, state: Any, action: Array, reward: Array, next_obs: Array
) -> None:
    spec = env.spec
    if isinstance(env, HasGoal):
        _check_label(env, "goal", spec.goal, np.asarray(env.goal(obs, task)))
        distance = jax.eval_shape(env.distance, state, task)
        _array(env, "distance", distance, (), jnp.float32)
    if isinstance(env, HasExpert):
        chosen = env.expert(jax.random.key(0), state, task)
        wanted = jax.eval_shape(lambda key: _random_action(spec, key), jax.random.key(0))
        _array(env, "the expert's action", chosen, wanted.shape, wanted.dtype)
        inside = bool(np.all(np.abs(chosen) <= 1 + 1e-6))
        if not isinstance(spec.action, Continuous):
            inside = 0 <= int(chosen) < spec.action.num
        _require(inside, "the expert's action is none of its actions", env)
    if isinstance(env, HasDenseReward):
        dense = jax.eval_shape(env.dense_reward, next_obs, task)
        _array(env, "dense_reward", dense, (), jnp.float32)
    if isinstance(env, HasLikelihood):
        _, log_prior = env.hypotheses(50)
        total = float(np.exp(np.asarray(log_prior, np.float64)).sum())
        _require(abs(total - 1) < 1e-4, f"the prior of its hypotheses sums to {total:.4f}", env)
        carry = env.initial_carry(task)
        after, log_likelihood = env.log_likelihood(task, carry, obs, action, reward, next_obs)
        _same(env, "log_likelihood returns another kind of carry", after, carry)
        _array(env, "log_likelihood", log_likelihood, (), jnp.float32)
        _require(bool(np.isfinite(log_likelihood)), "rules out the true task (log_likelihood)", env)
    if isinstance(env, HasInformativeStart):
        log_likelihood = env.start_log_likelihood(task, obs)
        _array(env, "start_log_likelihood", log_likelihood, (), jnp.float32)
        _require(
            bool(np.isfinite(log_likelihood)), "rules out the true task (start_log_likelihood)", env
        )


# ---- single checks -----------------------------------------------------------------


def _random_action(spec: EnvSpec, key: Key) -> Array:
    if isinstance(spec.action, Continuous):
        return jax.random.uniform(key, (spec.action.num,), minval=-1, maxval=1)
    return jax.random.randint(key, (), 0, spec.action.num)


def _check_label(env: Env, what: str, family: LabelSpec, h: np.ndarray) -> None:
    if isinstance(family, Categories):
        _array(env, what, h, (family.places,), jnp.int32)
        inside = bool(np.all((h >= 0) & (h < family.classes)))
        _require(inside, f"{what}: a class that is not among the {family.classes}", env)
        return
    _array(env, what, h, (family.num,), jnp.float32)
    if isinstance(family, Probabilities):
        _require(bool(np.all((h > 0) & (h < 1))), f"{what}: a probability outside (0, 1)", env)


def _array(env: Env, what: str, found: Any, shape: tuple[int, ...], dtype: Any) -> None:
    _require(
        found.shape == shape and found.dtype == dtype,
        f"{what} is {found.dtype} {list(found.shape)}, not {np.dtype(dtype)} {list(shape)}",
        env,
    )


def _same(env: Env, what: str, one: Any, other: Any) -> None:
    def form(tree: Any) -> Any:
        return jax.tree.structure(tree), [
            (jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)
        ]

    _require(form(one) == form(other), what, env)


def _equal(one: Any, other: Any) -> bool:
    def plain(leaf: Any) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return all(
        np.array_equal(plain(a), plain(b))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def _name(env: Any) -> str:
    return type(env).__name__


def _require(holds: bool, what: str, env: Any = None) -> None:
    if not holds:
        raise ValueError(what if env is None else f"{_name(env)}: {what}")
