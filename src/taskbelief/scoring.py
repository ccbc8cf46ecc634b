"""`taskbelief.score`: how good any policy is, beside the references that an environment has.

    print(taskbelief.score("explorer", "bandit"))

Agents of this library are scored by the same cards when a run evaluates them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats

from taskbelief import card, evaluation, explorer, posterior, registry, rollout, types, view
from taskbelief.card import Calibration, Card, Reference
from taskbelief.evaluation import Evaluation, Tally
from taskbelief.posterior import Counts, Posterior, Weights
from taskbelief.rollout import Scripted
from taskbelief.types import (
    AgentInput,
    Array,
    Categories,
    Continuous,
    Discrete,
    Env,
    HasLikelihood,
    Key,
    Probabilities,
    Reals,
    Task,
    Trajectory,
)

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
        called, played = policy, _Played(*found[policy])
    elif isinstance(policy, Scripted):
        called, played = "scripted policy", _Played(*_by_script(made, policy, chosen, key))
        found = beside(made, name, chosen, seed, SHOWN)
    else:
        called, collect = _outsider(made, policy, compiled, history)
        if called in explorer.names(made):
            called = f"{called} (yours)"
        played = _by_chunks(made, collect, chosen, key, batch)
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
        calibration=None if played.tally is None else calibrated(played.tally),
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
    """What the tasks are called, and the tasks, [K, ...].

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
    """What the reference policies earn on `tasks`, the set `name` of `env`, by their names.

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
    """What scores are normalised by."""
    return evaluation.references(
        {name: float(np.mean(one.returns.astype(np.float64))) for name, one in found.items()}
    )


@functools.lru_cache(maxsize=256)
def _known(env: Env, policy: str, name: str, num: int, seed: int) -> Reference:
    """Played once in a process."""
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


# ---- policies from outside --------------------------------------------------------


class _Played(NamedTuple):
    returns: np.ndarray  # [K]
    rewards: np.ndarray  # [T, K]
    nll: np.ndarray | None = None  # [T, K]
    kl: np.ndarray | None = None  # [T, K]
    tally: Tally | None = None


Collect = Callable[[Task, Key], Trajectory]  # the trajectory has beliefs for log_prob


def _outsider(env: Env, policy: Any, compiled: bool, history: bool) -> tuple[str, Collect]:
    """What the policy is called, and who plays it."""
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
        return carry, actions, _belief(env, belief[0], len(obs)) if belief else ()

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


def _by_chunks(env: Env, collect: Collect, tasks: Task, key: Key, batch: int) -> _Played:
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
            _check_belief(played.log_prob)
            judge = judge or _judge(env, played.log_prob)
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
    return _Played(returns, rewards, nll, kl, tally)


# ---- their beliefs ----------------------------------------------------------------


class Masses(NamedTuple):
    """Probabilities of the hypotheses of `posterior.make(env, K)`."""

    log_probs: Array  # [..., K]


class Classes(NamedTuple):
    probs: Array  # [..., places, classes]


class Normals(NamedTuple):
    mean: Array  # [..., num]
    std: Array  # [..., num]


class Betas(NamedTuple):
    a: Array  # [..., num]
    b: Array  # [..., num]


Belief = Masses | Classes | Normals | Betas


def _belief(env: Env, given: Any, num: int) -> Belief:
    """What a policy said, batched, as one of the families.

    Raises:
      ValueError: it is none of them.
    """
    family = env.spec.task
    if isinstance(given, Weights):
        return Masses(jnp.asarray(given.log_probs))
    if isinstance(given, Counts):
        return Betas(jnp.asarray(given.wins) + 1, jnp.asarray(given.losses) + 1)
    if isinstance(given, (tuple, list)) and len(given) == 2:
        one, other = (jnp.asarray(each, jnp.float32) for each in given)
        if not isinstance(family, Categories) and one.shape == other.shape == (num, family.num):
            return Normals(one, other) if isinstance(family, Reals) else Betas(one, other)
    elif hasattr(given, "shape"):
        probs = jnp.asarray(given, jnp.float32)
        if isinstance(family, Categories) and probs.shape == (num, family.places, family.classes):
            return Classes(probs)
        if probs.ndim == 2 and len(probs) == num and not isinstance(family, Probabilities):
            return Masses(jnp.log(probs))
    if isinstance(family, Categories):
        forms = f"probabilities {(num, family.places, family.classes)} or {(num, 'K')}"
    elif isinstance(family, Reals):
        forms = f"(mean, std) of {(num, family.num)} each, or probabilities {(num, 'K')}"
    else:
        forms = f"(a, b) of {(num, family.num)} each"
    said = jax.tree.map(np.shape, given)
    raise ValueError(f"belief: must be {forms.replace(chr(39), '')}, not {said}")


def _check_belief(belief: Belief) -> None:
    if isinstance(belief, Masses | Classes):
        probs = jnp.exp(belief.log_probs) if isinstance(belief, Masses) else belief.probs
        off = float(jnp.max(jnp.abs(jnp.sum(probs, axis=-1) - 1)))
        if not (off < 1e-3 and float(jnp.min(probs)) >= 0):
            raise ValueError("belief: probabilities must not be negative, and must sum to 1")
    else:
        spread = (belief.std,) if isinstance(belief, Normals) else tuple(belief)
        if not all(float(jnp.min(each)) > 0 for each in spread):
            raise ValueError("belief: standard deviations, a and b must be above 0")


def _judge(env: Env, belief: Belief) -> Callable[[Task, Trajectory, Key], tuple]:
    """(tasks [B], trajectory, key) -> (NLL [T, B], KL [T, B] or None, tally [N, B]).

    Raises:
      ValueError: there are not as many hypotheses as masses.
    """
    exact = None
    if isinstance(env, HasLikelihood):
        size = belief.log_probs.shape[-1] if isinstance(belief, Masses) else 500
        exact = posterior.make(env, size)
    if isinstance(belief, Masses):
        has = 0 if exact is None or exact.tasks is None else rollout.batch_size(exact.tasks)
        if has != belief.log_probs.shape[-1]:
            raise ValueError(
                f"belief: {belief.log_probs.shape[-1]} probabilities, but the posterior of"
                f" {registry.name_of(env)} has {has or 'no'} hypotheses"
            )
    divergence: Any = None
    known = registry.find("labels", "description").make(env, None).exact
    if exact is not None and known is not None:
        divergence = known.divergence

    def one(xs: tuple) -> tuple:
        """One meta-episode at a time: beliefs over time are large."""
        task, believed, obs, reached, action, reward, key = xs
        h = env.describe(task)
        steps = len(obs) - 1
        nll = -_log_prob(exact, believed, jnp.broadcast_to(h, (steps, *h.shape)))
        tally = _tally(exact, env, believed, h)
        if divergence is None:
            return nll, None, tally
        assert exact is not None
        beliefs = posterior.along(exact, obs, action, reward, reached)
        beliefs = jax.tree.map(lambda leaf: leaf[:-1], beliefs)
        if isinstance(believed, Masses):
            p = jnp.exp(beliefs.log_probs)
            gap = jnp.where(p > 0, beliefs.log_probs - believed.log_probs, 0.0)
            return nll, jnp.sum(p * gap, axis=-1), tally
        learned = functools.partial(_log_prob, exact, believed)
        return nll, divergence(exact, beliefs, obs[:-1], learned, key), tally

    @jax.jit
    def judge(tasks: Task, played: Trajectory, key: Key) -> tuple:
        history = played.inputs.obs, played.inputs.reached, played.action, played.reward
        by_task = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (played.log_prob, *history))
        keys = jax.random.split(key, rollout.batch_size(tasks))
        nll, kl, tally = jax.lax.map(one, (tasks, *by_task, keys))
        return jax.tree.map(lambda leaf: leaf.T, (nll, kl, tally))

    return judge


def _log_prob(exact: Posterior | None, belief: Belief, h: Array) -> Array:
    """log b(h), [T], of beliefs and labels [T, ...]."""
    if isinstance(belief, Masses):
        assert exact is not None
        return jax.vmap(lambda logs, h: exact.log_prob_label(Weights(logs, None), h))(
            belief.log_probs, h
        )
    if isinstance(belief, Classes):
        probs = jnp.take_along_axis(belief.probs, h[..., None], axis=-1)
        return jnp.sum(jnp.log(probs), axis=(-1, -2))
    if isinstance(belief, Normals):
        return jnp.sum(stats.norm.logpdf(h, belief.mean, belief.std), axis=-1)
    return jnp.sum(stats.beta.logpdf(h, belief.a, belief.b), axis=-1)


def _tally(exact: Posterior | None, env: Env, belief: Belief, h: Array) -> Tally:
    """Of beliefs [T, ...] along one meta-episode, whose true label is h."""
    if isinstance(belief, Normals):
        return evaluation.tally_numbers(special.ndtr((h - belief.mean) / belief.std))
    if isinstance(belief, Betas):
        return evaluation.tally_numbers(special.betainc(belief.a, belief.b, h))
    if isinstance(belief, Classes):
        return evaluation.tally_classes(belief.probs, jnp.broadcast_to(h, belief.probs.shape[:-1]))
    assert exact is not None and exact.labels is not None
    masses = jnp.exp(belief.log_probs)
    if isinstance(env.spec.task, Categories):
        probs = jax.vmap(lambda logs: exact.mean(Weights(logs, None)))(belief.log_probs)
        return evaluation.tally_classes(probs, jnp.broadcast_to(h, probs.shape[:-1]))
    # numbers on a grid along a line: the mass before the true one, and half of its own cell's
    nearest = jnp.argmin(jnp.sum(jnp.square(exact.labels - h), axis=-1))
    before = jnp.where(jnp.arange(masses.shape[-1]) < nearest, masses, 0.0)
    return evaluation.tally_numbers(jnp.sum(before, axis=-1) + masses[:, nearest] / 2)


def calibrated(tally: Tally) -> Calibration:
    """What was said and found on average."""
    said, found, count = (np.asarray(each, np.float64) for each in tally)
    made = np.maximum(count, 1)
    return Calibration(said / made, found / made, count)
