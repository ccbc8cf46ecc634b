"""Heads: distributions over actions and over labels, from the outputs of networks.

The action head is chosen once from `spec.action`, the label head once from a label family; no
other part of the library distinguishes discrete from continuous actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from taskbelief import types
from taskbelief.networks import MLP, centred, normalised_relu
from taskbelief.types import (
    ActionSpec,
    Array,
    Categories,
    Continuous,
    Env,
    Key,
    LabelSpec,
    Privileged,
    Probabilities,
    Reals,
    Task,
    Trajectory,
)

# ---- actions ----------------------------------------------------------------------


class ActionValue(NamedTuple):
    """Q(features, .) with the features bound."""

    at: Callable[[Array], Array]  # action [..., num] or [...] -> Q [...]
    each: Callable[[], Array]  # -> Q of every action [..., num]; discrete actions only


class ActionHead(Protocol):
    """A family of policies. `params`: [..., num_params]; actions: [..., num] or [...]."""

    @property
    def num_params(self) -> int: ...

    @property
    def usual_entropy(self) -> float:
        """Nats of entropy that a learner keeps by default."""
        ...

    def sample(self, params: Array, key: Key) -> Array: ...
    def mode(self, params: Array) -> Array: ...
    def log_prob(self, params: Array, action: Array) -> Array: ...
    def entropy(self, params: Array, key: Key) -> Array:
        """[...] nats: exact for discrete actions, an unbiased sample for continuous ones."""
        ...

    def expect(self, params: Array, q: ActionValue, key: Key, samples: int) -> tuple[Array, Array]:
        """Returns (E[q], entropy) under the policy, each [...].

        Exact for discrete actions; the mean over `samples` reparameterised ones for
        continuous actions, so that the gradient with respect to `params` is SVG(0)'s.
        """
        ...

    def q_network(self, in_features: int, hidden: Sequence[int], *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns a module with `value(features) -> ActionValue`, normalised before each ReLU."""
        ...


# Actions are kept this far inside (-1, 1), where the inverse of tanh is accurate.
RIM = 1e-4


@dataclass(frozen=True)
class SquashedNormal:
    """Independent normals through tanh, for `Continuous` actions.

    `params`: means, then raw values of the standard deviations, which lie in (min_std, max_std).

    An action at the rim stands for all that tanh brings there: its density is their probability
    divided by `RIM`, the width of the rim (as in Acme, Hoffman et al. 2020). The density of the
    rim's own point would be far too low once a mean lies beyond it, and a ratio of such densities
    would explode.
    """

    num: int
    min_std: float = 0.05
    max_std: float = 1.0

    @property
    def num_params(self) -> int:
        return 2 * self.num

    @property
    def usual_entropy(self) -> float:
        return -float(self.num)  # Haarnoja et al. 2018, "Soft actor-critic algorithms", table 1

    def _normal(self, params: Array) -> distrax.Normal:
        mean, raw = jnp.split(params, 2, axis=-1)
        # a sigmoid by tanh; raw = 0 is the middle of the range
        share = 0.5 * jnp.tanh(0.5 * raw) + 0.5
        return distrax.Normal(mean, self.min_std + (self.max_std - self.min_std) * share)

    def sample(self, params: Array, key: Key) -> Array:
        return self._squash(self._normal(params).sample(seed=key))

    def mode(self, params: Array) -> Array:
        """Returns the median, the usual deterministic action."""
        return self._squash(self._normal(params).mean())

    def log_prob(self, params: Array, action: Array) -> Array:
        normal = self._normal(params)
        inside = self._log_density(normal, jnp.arctanh(jnp.clip(action, RIM - 1.0, 1.0 - RIM)))
        reflected = distrax.Normal(jnp.sign(action) * normal.mean(), normal.stddev())
        rim = reflected.log_survival_function(np.arctanh(1.0 - RIM)) - np.log(RIM)
        return jnp.sum(jnp.where(jnp.abs(action) < 1.0 - RIM, inside, rim), axis=-1)

    def entropy(self, params: Array, key: Key) -> Array:
        normal = self._normal(params)
        return -jnp.sum(self._log_density(normal, normal.sample(seed=key)), axis=-1)

    def expect(self, params: Array, q: ActionValue, key: Key, samples: int) -> tuple[Array, Array]:
        normal = self._normal(params)
        unsquashed = normal.sample(seed=key, sample_shape=(samples,))
        values = q.at(self._squash(unsquashed))
        entropy = -jnp.sum(self._log_density(normal, unsquashed), axis=-1)
        return jnp.mean(values, axis=0), jnp.mean(entropy, axis=0)

    def q_network(self, in_features: int, hidden: Sequence[int], *, rngs: nnx.Rngs) -> nnx.Module:
        return _ContinuousQ(in_features, self.num, hidden, rngs=rngs)

    def _squash(self, unsquashed: Array) -> Array:
        return jnp.clip(jnp.tanh(unsquashed), RIM - 1.0, 1.0 - RIM)

    def _log_density(self, normal: distrax.Normal, unsquashed: Array) -> Array:
        """Returns the log density of tanh(`unsquashed`), entry by entry: [..., num]."""
        # log |d tanh(u) / du| = 2 (log 2 - u - softplus(-2u)), the stable form
        jacobian = 2.0 * (np.log(2.0) - unsquashed - jax.nn.softplus(-2.0 * unsquashed))
        return normal.log_prob(unsquashed) - jacobian


class _ContinuousQ(nnx.Module):
    """Q(features, action). The features' part of the first layer is shared by all actions."""

    def __init__(self, in_features: int, num: int, hidden: Sequence[int], *, rngs: nnx.Rngs):
        self.features = nnx.Linear(in_features, hidden[0], rngs=rngs)
        self.action = nnx.Linear(num, hidden[0], use_bias=False, rngs=rngs)
        self.rest = MLP([*hidden, 1], rngs=rngs, last_scale=0.1, normalised=True)

    def value(self, features: Array) -> ActionValue:
        base = centred(self.features, features)

        def at(action: Array) -> Array:
            hidden = normalised_relu(base + centred(self.action, action))
            return self.rest(hidden)[..., 0]

        def each() -> Array:
            raise TypeError("continuous actions cannot be listed")

        return ActionValue(at, each)


@dataclass(frozen=True)
class Softmax:
    """A categorical distribution, for `Discrete` actions. `params`: logits."""

    num: int

    @property
    def num_params(self) -> int:
        return self.num

    @property
    def usual_entropy(self) -> float:
        # of the uniform policy's, as Christodoulou 2019 (who keeps 0.98 of it)
        return 0.7 * float(np.log(self.num))

    def sample(self, params: Array, key: Key) -> Array:
        return jax.random.categorical(key, params).astype(jnp.int32)

    def mode(self, params: Array) -> Array:
        return jnp.argmax(params, axis=-1).astype(jnp.int32)

    def log_prob(self, params: Array, action: Array) -> Array:
        log_probs = jax.nn.log_softmax(params)
        return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]

    def entropy(self, params: Array, key: Key) -> Array:
        del key
        log_probs = jax.nn.log_softmax(params)
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def expect(self, params: Array, q: ActionValue, key: Key, samples: int) -> tuple[Array, Array]:
        del samples
        probs = jnp.exp(jax.nn.log_softmax(params))
        return jnp.sum(probs * q.each(), axis=-1), self.entropy(params, key)

    def q_network(self, in_features: int, hidden: Sequence[int], *, rngs: nnx.Rngs) -> nnx.Module:
        return _DiscreteQ(in_features, self.num, hidden, rngs=rngs)


class _DiscreteQ(nnx.Module):
    """Q(features, .) of all actions at once."""

    def __init__(self, in_features: int, num: int, hidden: Sequence[int], *, rngs: nnx.Rngs):
        sizes = [in_features, *hidden, num]
        self.all = MLP(sizes, rngs=rngs, last_scale=0.1, normalised=True)

    def value(self, features: Array) -> ActionValue:
        values = self.all(features)

        def at(action: Array) -> Array:
            return jnp.take_along_axis(values, action[..., None], axis=-1)[..., 0]

        return ActionValue(at, lambda: values)


def action_head(spec: ActionSpec) -> ActionHead:
    """Returns the policy family of an action space."""
    return SquashedNormal(spec.num) if isinstance(spec, Continuous) else Softmax(spec.num)


# ---- labels -----------------------------------------------------------------------


class LabelHead(Protocol):
    """A family of beliefs about a label. `params`: [..., num_params]; h: [..., label axes]."""

    @property
    def num_params(self) -> int: ...
    @property
    def embed_dim(self) -> int: ...

    def log_prob(self, params: Array, h: Array) -> Array:
        """Returns log b(h), [...]."""
        ...

    def mean(self, params: Array) -> Array:
        """Returns E[h]; for categories, probabilities [..., places, classes]."""
        ...

    def cdf(self, params: Array, h: Array) -> Array:
        """The mass below h, [..., num]; of categories there is none.

        Raises:
          TypeError: categories have no order.
        """
        ...

    def embed(self, h: Array, obs: Array) -> Array:
        """Returns h as input of networks, [..., embed_dim], relative to `obs` [..., obs_dim]."""
        ...

    def summary(self, params: Array, obs: Array) -> Array:
        """Returns the belief as input of networks: E[embed(h)], and embed(mode) where it
        differs."""
        ...


_EDGE = 1e-4  # probabilities are kept this far inside (0, 1)
_LOG_MOST = 7.0  # a concentration of two thousand


@dataclass(frozen=True)
class IndependentBeta:
    """Beliefs about `Probabilities`: one Beta for each; conjugate to Bernoulli rewards.

    `params`: the logits of the means, then the logarithms of the concentrations a + b in units
    of the concentration of U(0, 1), which is 2: zeros are the prior, and the posterior after a
    hundred trials is near.
    """

    num: int

    @property
    def num_params(self) -> int:
        return 2 * self.num

    @property
    def embed_dim(self) -> int:
        return self.num

    def _shape(self, params: Array) -> tuple[Array, Array]:
        """a and b."""
        logit, log_concentration = jnp.split(params, 2, axis=-1)
        mean = jnp.clip(jax.nn.sigmoid(logit), _EDGE, 1.0 - _EDGE)
        concentration = 2.0 * jnp.exp(jnp.clip(log_concentration, -_LOG_MOST, _LOG_MOST))
        return mean * concentration, (1.0 - mean) * concentration

    def _beta(self, params: Array) -> distrax.Beta:
        return distrax.Beta(*self._shape(params))

    def log_prob(self, params: Array, h: Array) -> Array:
        return jnp.sum(self._beta(params).log_prob(jnp.clip(h, _EDGE, 1.0 - _EDGE)), axis=-1)

    def mean(self, params: Array) -> Array:
        return self._beta(params).mean()

    def cdf(self, params: Array, h: Array) -> Array:
        return jax.scipy.special.betainc(*self._shape(params), h)

    def embed(self, h: Array, obs: Array) -> Array:
        del obs
        return (h - 0.5) * np.sqrt(12.0)  # of unit variance under U(0, 1)

    def summary(self, params: Array, obs: Array) -> Array:
        return self.embed(self.mean(params), obs)


@dataclass(frozen=True)
class DiagonalNormal:
    """Beliefs about `Reals`: independent normals over the standardised label.

    `min_std` bounds the gradient, which grows with 1 / std²: at 0.01 the rare errors of a
    precise belief dominate the clipped gradient, at the expense of actor and critic.
    """

    spec: Reals
    min_std: float = 0.1

    @property
    def num_params(self) -> int:
        return 2 * self.spec.num

    @property
    def embed_dim(self) -> int:
        return self.spec.num

    def _normal(self, params: Array) -> distrax.Normal:
        mean, raw = jnp.split(params, 2, axis=-1)
        return distrax.Normal(mean, self.min_std + jax.nn.softplus(raw))

    def log_prob(self, params: Array, h: Array) -> Array:
        standardised = (h - jnp.asarray(self.spec.centre)) / jnp.asarray(self.spec.scale)
        log_prob = jnp.sum(self._normal(params).log_prob(standardised), axis=-1)
        return log_prob - float(np.sum(np.log(self.spec.scale)))

    def mean(self, params: Array) -> Array:
        standardised = self._normal(params).mean()
        return standardised * jnp.asarray(self.spec.scale) + jnp.asarray(self.spec.centre)

    def cdf(self, params: Array, h: Array) -> Array:
        standardised = (h - jnp.asarray(self.spec.centre)) / jnp.asarray(self.spec.scale)
        return self._normal(params).cdf(standardised)

    def embed(self, h: Array, obs: Array) -> Array:
        centre = (
            obs[..., jnp.asarray(self.spec.origin)]
            if self.spec.origin
            else jnp.asarray(self.spec.centre)
        )
        return (h - centre) / jnp.asarray(self.spec.scale)

    def summary(self, params: Array, obs: Array) -> Array:
        """Includes the standard deviations, the uncertainty of the belief."""
        stddev = self._normal(params).stddev()
        return jnp.concatenate([self.embed(self.mean(params), obs), stddev], axis=-1)


@dataclass(frozen=True)
class IndependentCategorical:
    """Beliefs about `Categories`: one categorical distribution for each place."""

    spec: Categories

    @property
    def num_params(self) -> int:
        return self.spec.places * self.spec.classes

    @property
    def embed_dim(self) -> int:
        dims = len(self.spec.coordinates[0]) if self.spec.coordinates else 0
        return self.spec.places * (self.spec.classes + dims)

    def _logits(self, params: Array) -> Array:
        return params.reshape(*params.shape[:-1], self.spec.places, self.spec.classes)

    def log_prob(self, params: Array, h: Array) -> Array:
        log_probs = jax.nn.log_softmax(self._logits(params))
        return jnp.sum(jnp.take_along_axis(log_probs, h[..., None], axis=-1), axis=(-1, -2))

    def mean(self, params: Array) -> Array:
        return jax.nn.softmax(self._logits(params))

    def cdf(self, params: Array, h: Array) -> Array:
        raise TypeError("categories have no order")

    def embed(self, h: Array, obs: Array) -> Array:
        return self._read(jax.nn.one_hot(h, self.spec.classes), obs)

    def summary(self, params: Array, obs: Array, mode: Array | None = None) -> Array:
        """Includes the mode, because the mean of several positions may be none of them. `mode`
        [..., places] resolves ties; None: the first of the most probable classes."""
        if mode is None:
            mode = jnp.argmax(self._logits(params), axis=-1)
        mean = self._read(self.mean(params), obs)
        return jnp.concatenate([mean, self.embed(mode, obs)], axis=-1)

    def _read(self, probs: Array, obs: Array) -> Array:
        """Concatenates probabilities [..., places, classes] and expected coordinates, flattened."""
        if self.spec.coordinates:
            places = jnp.matmul(probs, jnp.asarray(self.spec.coordinates), precision="highest")
            if self.spec.origin:
                places = places - obs[..., None, jnp.asarray(self.spec.origin)]
            probs = jnp.concatenate([probs, places], axis=-1)
        return probs.reshape(*probs.shape[:-2], -1)


def label_head(spec: LabelSpec) -> LabelHead:
    """Returns the belief family of a label."""
    if isinstance(spec, Probabilities):
        return IndependentBeta(spec.num)
    if isinstance(spec, Reals):
        return DiagonalNormal(spec)
    return IndependentCategorical(spec)


# ---- the hidden task, for privileged critics ---------------------------------------


def privileged(env: Env) -> Privileged:
    """Returns the hidden task as input of critics: its description, and the goal where that is of
    another family."""
    spec = env.spec
    head, goal_head = label_head(spec.task), label_head(spec.goal)
    goal = types.goal(env) if spec.goal != spec.task else None

    def one(obs: Array, task: Task) -> Array:
        obs = obs[: spec.obs_dim]
        parts = [head.embed(env.describe(task), obs)]
        if goal is not None:
            parts.append(goal_head.embed(goal(obs, task), obs))
        return jnp.concatenate(parts)

    def read(obs: Array, task: Task) -> Array:
        batched = one
        for _ in range(obs.ndim - 1):
            batched = jax.vmap(batched)
        return batched(obs, task)

    size = head.embed_dim + (0 if goal is None else goal_head.embed_dim)
    return Privileged(size, read)


def with_task(critic: Array, privileged: Privileged | None, batch: Trajectory) -> Array:
    """Appends the hidden task to the critic's features, [T, B, D] or [T + 1, B, D].

    The task is a label: it exists in training only, and acting does not depend on a critic. The
    policy's gradient stays that of Q(history, a) in expectation, since the task given the history
    is distributed by the posterior; its variance is smaller (asymmetric actor-critic: Pinto et
    al. 2018; with history and state: Baisero & Amato 2022).
    """
    if privileged is None:
        return critic
    task = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[-1:]]), batch.label.task)
    embedded = privileged.read(batch.inputs.obs, task)[: len(critic)]
    return jnp.concatenate([critic, embedded], axis=-1)
