"""`taskbelief.score`: how good any policy is, beside the references that an environment has.

    print(taskbelief.score("explorer", "bandit"))

Agents of this library are scored by the same cards when a run evaluates them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import card, evaluation, explorer, posterior, registry, rollout, types
from taskbelief.card import Card, Reference
from taskbelief.evaluation import Evaluation
from taskbelief.rollout import Scripted
from taskbelief.scoring import _outsiders
from taskbelief.scoring._outsiders import Played
from taskbelief.types import Array, Env, Key, Task

SETS = ("holdout", "train", "all")
SHOWN = ("random", "expert", "explorer", "gittins")  # what a policy is shown beside
ENDS = ("random", "expert", "explorer")  # the references that scores are made of
MOST = 1000  # tasks of a set, unless said otherwise


@runtime_checkable
class Scored(Protocol):
    """Makes its own card: agents of this library (`api.Trained`)."""

    @property
    def env(self) -> Env: ...

    def card(self, tasks: str | Task, num: int | None, seed: int) -> Card: ...


def score(
    policy: Any,
    env: Any = None,
    tasks: str | Task = "holdout",
    *,
    num: int | None = None,
    seed: int = 0,
    batch: int = 256,
    compiled: bool = True,
    history: bool = True,
    **settings: Any,
) -> Card:
    """Plays one meta-episode on each of many tasks; `print` the card that comes of it.

    A policy sees the vector of `taskbelief.view`, the same as through the adapters: the
    observation, its previous action and reward, and whether an episode has just begun. Actions
    are [B] whole numbers, or [B, num] in [-1, 1], clipped to that.

    Args:
      policy: one of
        - a name: "random", "expert", "explorer", and on the bandit "thompson", "ucb" and
          "gittins", which is nearly Bayes-optimal;
        - an agent of this library: `taskbelief.load(...)`, with the environment it knows;
        - (init, step), two functions that JAX can compile, over a batch:
          `init(B) -> carry`, `step(carry, obs [B, D], key) -> (carry, actions)`, or
          `(carry, actions, belief)`; with `compiled=False` they are called from Python
          with NumPy observations;
        - a model with Stable-Baselines3's
          `predict(obs, state, episode_start, deterministic) -> (actions, state)`; the episode
          is the whole meta-episode, so a recurrent model keeps its state within a task;
        - a function `obs [B, D] -> actions`, called from Python with NumPy arrays.
        A PyTorch module becomes one of these by a wrapper of three lines:

            def step(carry, obs, key):
                logits, carry = net(torch.as_tensor(obs), carry)
                return carry, logits.argmax(-1).numpy()
            taskbelief.score((lambda num: None, step), "bandit", compiled=False)

      env: a name, an environment, or an adapter's environment; None: the agent's own.
      tasks: "holdout", "train", "all" (drawn from p(w)), or tasks [K, ...].
      num: at most so many tasks of a set; None: 1000, or as many as the agent's evaluations take.
      seed: of all that is random; the references are played with the same.
      batch: tasks that are played side by side.
      compiled: (init, step) are compiled by JAX.
      history: observations hold the previous action and reward and the start of an episode.
      settings: of the environment, where `env` is a name.

    A belief, if `step` returns one, is about the task's description h, in one of these forms:

        spec.task        belief, each [B, ...]
        Categories       probabilities [B, places, classes]
        Reals            (mean, standard deviation), [B, num] each
        Probabilities    (a, b) of Beta distributions, [B, num] each
        any, on a grid   probabilities [B, K] of the tasks of `posterior.make(env, K)`
        any              a belief of `posterior.make(env)`, batched

    It is what the policy believes on seeing `obs`, before its action. The card then has the
    negative log-likelihood of the true task, the divergence from the exact posterior along the
    same history, step by step, and calibration.

    Raises:
      ValueError: an argument that makes no sense, in one sentence.
    """
    _check(num, "num")
    _check(batch, "batch")
    if isinstance(policy, Scored):
        if env is not None and types.at_test(_made(env, settings)) != policy.env:
            raise ValueError("env: an agent of this library knows its own, so leave it out")
        return policy.card(tasks, num, seed)
    if env is None:
        raise ValueError("env: must be given, by name or as it is")
    made = types.at_test(_made(env, settings))
    name, chosen = task_list(made, tasks, num, seed)
    key = jax.random.key(seed)
    if isinstance(policy, str):
        if policy not in explorer.names(made):
            raise ValueError(
                f"no policy {policy!r}: {registry.name_of(made)} has"
                f" {', '.join(explorer.names(made))}; others are functions, models or agents"
            )
        found = beside(made, name, chosen, seed, (*SHOWN, policy))
        called, played = policy, Played(*found[policy])
    elif isinstance(policy, Scripted):
        called, played = "scripted policy", Played(*_by_script(made, policy, chosen, key))
        found = beside(made, name, chosen, seed, SHOWN)
    else:
        called, collect = _outsiders.find(made, policy, compiled, history)
        if called in explorer.names(made):
            called = f"{called} (yours)"
        played = _outsiders.play(made, collect, chosen, key, batch)
        found = beside(made, name, chosen, seed, SHOWN)
    return card.of(
        Evaluation(
            played.returns,
            np.stack([part.sum(axis=0) for part in evaluation.quarters(played.rewards)]),
            played.nll,
            None,
            played.rewards,
        ),
        policy=called,
        env=registry.name_of(made),
        tasks=name,
        references=ends(found),
        beside=found,
        episodes=card.equal_episodes(made.spec),
        kl=played.kl,
        calibration=None if played.tally is None else card.calibrated(played.tally),
    )


def _check(value: Any, name: str) -> None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} {value!r}: must be a whole number, at least 1")


def _made(env: Any, settings: Mapping[str, Any]) -> Env:
    env = env if isinstance(env, str) else posterior.inside(env)
    if not isinstance(env, str) and not hasattr(env, "task_set"):
        raise ValueError(f"env: must be a name or an environment, not {type(env).__name__}")
    return registry.make(env, **settings)


# ---- tasks and references ---------------------------------------------------------


def task_list(env: Env, tasks: str | Task, num: int | None, seed: int) -> tuple[str, Task]:
    """Returns the name of the tasks, and the tasks, [K, ...].

    Raises:
      ValueError: there is no such set, or these are no tasks of `env`.
    """
    if not isinstance(tasks, str):
        _check_tasks(env, tasks)
        return "given", jax.tree.map(lambda leaf: jnp.asarray(leaf)[:num], tasks)
    if tasks not in SETS:
        raise ValueError(f"tasks {tasks!r}: must be holdout, train, all, or tasks [K, ...]")
    return tasks, _set(env, tasks, MOST if num is None else num, seed)


@functools.lru_cache(maxsize=32)
def _set(env: Env, name: str, num: int, seed: int) -> Task:
    if name == "all":
        key = jax.random.fold_in(jax.random.key(seed), 1)  # not the one that plays
        return jax.vmap(env.sample_task)(jax.random.split(key, num))
    return jax.tree.map(lambda leaf: leaf[:num], env.task_set(name))


def _check_tasks(env: Env, tasks: Task) -> None:
    wanted = jax.eval_shape(env.sample_task, jax.eval_shape(jax.random.key, 0))
    fits = jax.tree.structure(wanted) == jax.tree.structure(tasks)
    leaves = [
        (np.shape(leaf), like.shape)
        for leaf, like in zip(jax.tree.leaves(tasks), jax.tree.leaves(wanted), strict=fits)
    ]
    fits = fits and all(shape[1:] == like and len(shape) > len(like) for shape, like in leaves)
    if not fits or len({shape[0] for shape, _ in leaves}) != 1 or leaves[0][0][0] == 0:
        raise ValueError(
            f"tasks: must be holdout, train, all, or a batch of {registry.name_of(env)}'s tasks,"
            " [K, ...], as task_set and vmap of sample_task give them"
        )


def beside(
    env: Env, name: str, tasks: Task, seed: int, wanted: tuple[str, ...] | None = None
) -> dict[str, Reference]:
    """Returns what the reference policies earn on `tasks`, the set `name` of `env`, by their names.

    Args:
      wanted: only these, as far as `env` has them; None: all.
    """
    num = rollout.batch_size(tasks)
    found = explorer.names(env)
    asked = [each for each in found if wanted is None or each in wanted]
    if name != "given":
        return {each: _known(env, each, name, num, seed) for each in asked}
    key = jax.random.key(seed)
    return {each: _by_script(env, _script(env, each), tasks, key) for each in asked}


def ends(found: Mapping[str, Reference]) -> evaluation.References | None:
    """Returns what scores are normalised by; None: `found` lacks a reference."""
    return evaluation.references(
        {name: float(np.mean(one.returns.astype(np.float64))) for name, one in found.items()}
    )


@functools.lru_cache(maxsize=256)
def _known(env: Env, policy: str, name: str, num: int, seed: int) -> Reference:
    """Plays a reference once in a process."""
    return _by_script(env, _script(env, policy), _set(env, name, num, seed), jax.random.key(seed))


@functools.lru_cache(maxsize=64)
def _script(env: Env, name: str) -> Scripted:
    return explorer.make(env, name)


@functools.lru_cache(maxsize=64)
def _play_script(env: Env, policy: Scripted) -> Callable[[Task, Key], tuple[Array, Array]]:
    @jax.jit
    def play(tasks: Task, key: Key) -> tuple[Array, Array]:
        rewards = rollout.collect_scripted(env, tasks, key, policy).reward
        return rewards.sum(axis=0), rewards

    return play


def _by_script(env: Env, policy: Scripted, tasks: Task, key: Key) -> Reference:
    return Reference(*map(np.asarray, _play_script(env, policy)(tasks, key)))
