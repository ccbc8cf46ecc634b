"""Beliefs about the task that policies from elsewhere state, by their form."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats

from taskbelief import evaluation, posterior, registry, rollout
from taskbelief.evaluation import Tally
from taskbelief.posterior import Counts, Posterior, Weights
from taskbelief.types import (
    Array,
    Categories,
    Env,
    HasLikelihood,
    Key,
    LabelSpec,
    Probabilities,
    Reals,
    Task,
    Trajectory,
)


class Belief(Protocol):
    """A belief about the task's description, at each of some steps; a pytree."""

    def check(self) -> None:
        """Raises ValueError where numbers are no distribution."""
        ...

    def log_prob(self, exact: Posterior | None, h: Array) -> Array:
        """Returns log b(h), [T], of beliefs and labels [T, ...]."""
        ...

    def tally(self, exact: Posterior | None, h: Array) -> Tally:
        """Tallies beliefs [T, ...] along one meta-episode, whose true label is h."""
        ...


class Masses(NamedTuple):
    """Probabilities of the hypotheses of `posterior.make(env, K)`."""

    log_probs: Array  # [..., K]

    def check(self) -> None:
        _check_probabilities(jnp.exp(self.log_probs))

    def log_prob(self, exact: Posterior | None, h: Array) -> Array:
        assert exact is not None
        one = exact.log_prob_label
        return jax.vmap(lambda logs, h: one(Weights(logs, None), h))(self.log_probs, h)

    def tally(self, exact: Posterior | None, h: Array) -> Tally:
        assert exact is not None and exact.labels is not None
        if jnp.issubdtype(h.dtype, jnp.integer):  # categories
            mean = exact.mean
            return Classes(jax.vmap(lambda logs: mean(Weights(logs, None)))(self.log_probs)).tally(
                exact, h
            )
        # numbers on a grid along a line: the mass before the true one, and half of its own cell's
        masses = jnp.exp(self.log_probs)
        nearest = jnp.argmin(jnp.sum(jnp.square(exact.labels - h), axis=-1))
        before = jnp.where(jnp.arange(masses.shape[-1]) < nearest, masses, 0.0)
        return evaluation.tally_numbers(jnp.sum(before, axis=-1) + masses[:, nearest] / 2)

    def divergence(self, beliefs: Weights) -> Array:
        """Returns the divergence from exact `beliefs` on the same hypotheses, [T] nats."""
        p = jnp.exp(beliefs.log_probs)
        gap = jnp.where(p > 0, beliefs.log_probs - self.log_probs, 0.0)
        return jnp.sum(p * gap, axis=-1)


class Classes(NamedTuple):
    """Probabilities of the classes of each place."""

    probs: Array  # [..., places, classes]

    def check(self) -> None:
        _check_probabilities(self.probs)

    def log_prob(self, exact: Posterior | None, h: Array) -> Array:
        probs = jnp.take_along_axis(self.probs, h[..., None], axis=-1)
        return jnp.sum(jnp.log(probs), axis=(-1, -2))

    def tally(self, exact: Posterior | None, h: Array) -> Tally:
        return evaluation.tally_classes(self.probs, jnp.broadcast_to(h, self.probs.shape[:-1]))


class Normals(NamedTuple):
    """A normal distribution of each number."""

    mean: Array  # [..., num]
    std: Array  # [..., num]

    def check(self) -> None:
        _check_positive(self.std)

    def log_prob(self, exact: Posterior | None, h: Array) -> Array:
        return jnp.sum(stats.norm.logpdf(h, self.mean, self.std), axis=-1)

    def tally(self, exact: Posterior | None, h: Array) -> Tally:
        return evaluation.tally_numbers(special.ndtr((h - self.mean) / self.std))


class Betas(NamedTuple):
    """A Beta distribution of each number."""

    a: Array  # [..., num]
    b: Array  # [..., num]

    def check(self) -> None:
        _check_positive(self.a, self.b)

    def log_prob(self, exact: Posterior | None, h: Array) -> Array:
        return jnp.sum(stats.beta.logpdf(h, self.a, self.b), axis=-1)

    def tally(self, exact: Posterior | None, h: Array) -> Tally:
        return evaluation.tally_numbers(special.betainc(self.a, self.b, h))


def _check_probabilities(probs: Array) -> None:
    off = float(jnp.max(jnp.abs(jnp.sum(probs, axis=-1) - 1)))
    if not (off < 1e-3 and float(jnp.min(probs)) >= 0):
        raise ValueError("belief: probabilities must not be negative, and must sum to 1")


def _check_positive(*numbers: Array) -> None:
    if not all(float(jnp.min(each)) > 0 for each in numbers):
        raise ValueError("belief: standard deviations, a and b must be above 0")


def read(family: LabelSpec, given: Any, num: int) -> Belief:
    """Returns what a policy states about a label of `family`, for a batch of `num`.

    Raises:
      ValueError: it has none of the forms of `taskbelief.score`.
    """
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


def judge(env: Env, belief: Belief) -> Callable[[Task, Trajectory, Key], tuple]:
    """Returns the function (tasks [B], trajectory with beliefs like `belief` in place of log_prob,
    key) -> (NLL [T, B], KL [T, B] or None, tally [N, B]).

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
        task, stated, obs, reached, action, reward, key = xs
        h = env.describe(task)
        steps = len(obs) - 1
        nll = -stated.log_prob(exact, jnp.broadcast_to(h, (steps, *h.shape)))
        tally = stated.tally(exact, h)
        if divergence is None:
            return nll, None, tally
        assert exact is not None
        beliefs = posterior.along(exact, obs, action, reward, reached)
        beliefs = jax.tree.map(lambda leaf: leaf[:-1], beliefs)
        if isinstance(stated, Masses):
            return nll, stated.divergence(beliefs), tally
        learned = functools.partial(stated.log_prob, exact)
        return nll, divergence(exact, beliefs, obs[:-1], learned, key), tally

    @jax.jit
    def judged(tasks: Task, played: Trajectory, key: Key) -> tuple:
        history = played.inputs.obs, played.inputs.reached, played.action, played.reward
        by_task = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), (played.log_prob, *history))
        keys = jax.random.split(key, rollout.batch_size(tasks))
        nll, kl, tally = jax.lax.map(one, (tasks, *by_task, keys))
        return jax.tree.map(lambda leaf: leaf.T, (nll, kl, tally))

    return judged
