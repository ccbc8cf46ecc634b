"""The exact posterior over tasks: the best belief that a network can learn.

The posterior does not depend on the policy that generated the history (Humplik et al. 2019),
which is why belief networks can be trained off-policy:

    p(w | tau_0:t) ∝ p(w) p0(x0 | w) prod_t' P(r_t', x_t'+1 | x_t', a_t', w)

It is computed by a Bayes filter, which multiplies by one factor per step, the environment's own
`log_likelihood`, over its `hypotheses`: all tasks of a finite task space, otherwise a grid. For
independent Bernoulli arms the posterior is a Beta distribution per arm, in closed form. `init`
includes the first observation, p0(x0 | w) (the cues of numpad).

A posterior depends only on data that an agent observes: observations, actions and rewards.

    p = posterior.make("numpad")
    belief = p.update(p.init(obs), obs, action, reward, next_obs)
    p.probabilities(belief), p.mean(belief), p.entropy(belief), p.sample(belief, key)

These functions are the same for every environment, whatever its belief consists of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma, logsumexp

from taskbelief import registry
from taskbelief.types import (
    Array,
    Categories,
    Env,
    EnvSpec,
    HasGoal,
    HasIndependentArms,
    HasInformativeStart,
    HasLikelihood,
    Key,
    Probabilities,
    Reals,
    State,
    Task,
    goal,
)

# Hypotheses whose log probabilities differ by less count as equally probable, because rims are
# soft on grids (see the environments' `log_likelihood`) and floats are rounded.
_TIE = 0.01

Belief = Any  # `Weights` or `Counts`: a pytree, so that it can be vmapped, scanned and stored


class Weights(NamedTuple):
    """Belief as the probability of every hypothesis."""

    log_probs: Array  # [K], normalised
    carry: Any  # [K, ...]: state of each hypothesis along the history


class Counts(NamedTuple):
    """Belief as wins and losses of every arm: Beta(1 + wins, 1 + losses) each."""

    wins: Array  # [arms] float32
    losses: Array  # [arms] float32


class Posterior(NamedTuple):
    """Pure functions of single (unbatched) values, to be vmapped, jitted and scanned. Each has
    its own help: `help(p.update)`.

    Densities of real labels are per unit of length along the curve (or line) that the grid
    of hypotheses lies on; those of probabilities are densities of Beta distributions.
    """

    init: Callable[..., Belief]
    update: Callable[[Belief, Array, Array, Array, Array], Belief]
    log_prob: Callable[[Belief, Task], Array]
    log_prob_label: Callable[[Belief, Array], Array]
    mean: Callable[[Belief], Array]
    mode: Callable[..., Task]
    sample: Callable[[Belief, Key], Task]
    entropy: Callable[[Belief], Array]
    statistics: Callable[[Belief, Array], Array]
    probabilities: Callable[[Belief], Array]
    labels: Array
    tasks: Task


_SAYS = {
    "init": """(obs=None) -> belief: on seeing the first observation, [obs_dim]; or the prior.""",
    "update": """(belief, obs, action, reward, next_obs) -> belief after one more step.

    Args:
      belief: from `init` or `update`.
      obs: [obs_dim], what the action answered.
      action: [num] or []. One that no environment plays counts as the one it plays in its place.
      reward: [].
      next_obs: [obs_dim], what the action led to, before any reset.

    Arrays of JAX or NumPy, lists and Python's numbers will do.

    Raises:
      ValueError: of another shape (while tracing), or an arm that is not a whole number.
    """,
    "log_prob": """(belief, task) -> [] nats: log mass of a task (categories), or log density.""",
    "log_prob_label": """(belief, h) -> [] nats: `log_prob` of the task that h describes.""",
    "mean": """(belief) -> E[h], [num]; of categories the marginals, [places, classes].""",
    "mode": """(belief, state=None) -> the most probable task (of arms the mean, []: a Beta(1, 1)
    has no mode); of equally probable ones the nearest to `state`.""",
    "sample": """(belief, key) -> a task drawn from the belief, leaves of shape [...].""",
    "entropy": """(belief) -> [] nats: of the hypotheses, or differential (arms).""",
    "statistics": """(belief, obs [obs_dim]) -> [S]: the belief as networks read it.""",
    "probabilities": """(belief) -> [K], summing to 1: of each of `tasks`, as if p(w) were theirs.

    Exact where they are all of W, and up to the grid elsewhere; of arms, K vectors drawn from
    p(w), a rough picture, while all else that is said of arms is in closed form, but for P(best)
    among the statistics, an integral on a grid.
    """,
    "labels": """[K, ...]: h of each hypothesis.""",
    "tasks": """[K, ...]: the hypotheses.""",
}
for _name, _text in _SAYS.items():
    getattr(Posterior, _name).__doc__ = _text


def make(env: Any, num: int = 1000) -> Posterior:
    """Returns the posterior of an environment, on a grid of about `num` hypotheses where W is not
    finite.

    Args:
      env: a name, an environment, or an adapter's environment, also within other projects'
        wrappers.
      num: hypotheses of the grid.

    Raises:
      ValueError: the environment has no likelihood.
    """
    made = registry.make(env if isinstance(env, str) else inside(env))
    if isinstance(made, HasIndependentArms):
        return _careful(_conjugate(made, num), made)
    if isinstance(made, HasLikelihood):
        return _careful(_filter(made, num), made)
    raise ValueError(
        f"{type(made).__name__} has no exact posterior: it lacks initial_carry, log_likelihood"
        " or hypotheses (see types.HasLikelihood)"
    )


def inside(env: Any) -> Any:
    """Returns the environment of this library inside an adapter, or inside a wrapper of one."""
    found = env
    while not isinstance(getattr(found, "spec", None), EnvSpec):
        inner = next(
            (
                getattr(found, name)
                for name in ("env", "_env", "unwrapped", "venv", "envs")
                if getattr(found, name, found) is not found
            ),
            None,
        )
        if inner is None:
            return env
        found = inner
    return found


def _careful(made: Posterior, env: Env) -> Posterior:
    """Whose `update` takes what an agent from outside has at hand, and whose members say what
    they do."""
    spec = env.spec

    def update(belief: Belief, obs: Any, action: Any, reward: Any, next_obs: Any) -> Belief:
        obs = _shaped("obs", obs, spec.obs_dim)
        action = spec.action.legal(action)
        reward = _shaped("reward", reward)
        next_obs = _shaped("next_obs", next_obs, spec.obs_dim)
        return made.update(belief, obs, action, reward, next_obs)

    def log_prob_label(belief: Belief, h: Any) -> Array:
        return made.log_prob_label(belief, jnp.asarray(h))

    careful = made._replace(update=update, log_prob_label=log_prob_label)
    for name, text in _SAYS.items():
        member = getattr(careful, name)
        if callable(member):
            member.__doc__ = text
    return careful


def _shaped(name: str, value: Any, *shape: int) -> Array:
    value = jnp.asarray(value)
    if value.shape != shape:
        raise ValueError(
            f"{name} of shape {list(value.shape)}: must be {list(shape)} (vmap for batches)"
        )
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.float32)


def along(
    posterior: Posterior, obs: Array, action: Array, reward: Array, reached: Array | None = None
) -> Belief:
    """Returns the beliefs of a whole meta-episode: entry t is the belief given obs[t].

    Args:
      obs: [T + 1, obs_dim]; action: [T, ...]; reward: [T].
      reached: [T + 1, obs_dim], what each action led to (`AgentInput.reached`), which differs
        from `obs` where a reset followed; None: there was none.

    Returns:
      A belief with a leading axis of T + 1; its first entry is the prior, given obs[0].
    """

    def step(belief: Belief, now: tuple[Array, Array, Array, Array]) -> tuple[Belief, Belief]:
        belief = posterior.update(belief, *now)
        return belief, belief

    prior = posterior.init(obs[0])
    led_to = obs if reached is None else reached
    _, after = jax.lax.scan(step, prior, (obs[:-1], action, reward, led_to[1:]))
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), prior, after)


def weighted_sum(weights: Array, values: Array) -> Array:
    """Returns the sum of `values` [K, ...] with `weights` [..., K], in full float32: by default
    GPUs and TPUs round the factors of a product to fewer bits."""
    return jnp.tensordot(weights, values, axes=1, precision="highest")


def _draw(key: Key, masses: Array) -> Array:
    """Draws an index in proportion to `masses` [K], [] int32.

    The draw is by inversion, from one random number; the Gumbel trick needs one per hypothesis. It
    selects a block of about the root of K hypotheses, then one in it, because running sums are
    slow on a CPU.
    """
    num = len(masses)
    size = math.isqrt(num - 1) + 1
    blocks = jnp.pad(masses, (0, -num % size)).reshape(-1, size)
    block, rest = _invert(jnp.sum(blocks, axis=-1), jax.random.uniform(key))
    within, _ = _invert(blocks[block], rest)
    return block * size + within


def _invert(masses: Array, share: Array) -> tuple[Array, Array]:
    """Returns the index at which the running sum of `masses` passes `share` of their sum, and the
    share of the mass there before that point."""
    cumulative = jnp.cumsum(masses)
    point = jnp.minimum(share, 1 - jnp.finfo(masses.dtype).eps) * cumulative[-1]
    index = jnp.sum(cumulative <= point)
    mass = masses[index]
    return index, jnp.maximum(point - (cumulative[index] - mass), 0) / mass


# ---- a filter over hypotheses -----------------------------------------------------


_BINS = 16  # parts of a grid whose masses are among the statistics


def _filter(env: HasLikelihood, num: int) -> Posterior:
    spec = env.spec
    # evaluated immediately, also if `make` is called under jit
    with jax.ensure_compile_time_eval():
        tasks, log_prior = env.hypotheses(num)
        labels = jax.vmap(env.describe)(tasks)
        log_cell = 0.0
        if not isinstance(spec.task, Categories):
            gaps = np.linalg.norm(np.diff(np.asarray(labels), axis=0), axis=-1)
            log_cell = float(np.log(np.mean(gaps)))

    def init(obs: Array | None = None) -> Weights:
        log_probs = log_prior
        if obs is not None and isinstance(env, HasInformativeStart):
            first = jax.vmap(env.start_log_likelihood, in_axes=(0, None))(tasks, obs)
            log_probs = log_prior + first
            log_probs = log_probs - logsumexp(log_probs)
        return Weights(log_probs, jax.vmap(env.initial_carry)(tasks))

    def update(
        belief: Weights, obs: Array, action: Array, reward: Array, next_obs: Array
    ) -> Weights:
        carry, log_likelihood = jax.vmap(
            env.log_likelihood, in_axes=(0, 0, None, None, None, None)
        )(tasks, belief.carry, obs, action, reward, next_obs)
        log_probs = belief.log_probs + log_likelihood
        return Weights(log_probs - logsumexp(log_probs), carry)

    def log_prob_label(belief: Weights, h: Array) -> Array:
        if isinstance(spec.task, Categories):
            same = jnp.all(labels == h, axis=-1)
            return logsumexp(jnp.where(same, belief.log_probs, -jnp.inf))
        nearest = jnp.argmin(jnp.sum(jnp.square(labels - h), axis=-1))
        return belief.log_probs[nearest] - log_cell

    def log_prob(belief: Weights, task: Task) -> Array:
        return log_prob_label(belief, env.describe(task))

    def mean(belief: Weights) -> Array:
        values = labels
        if isinstance(spec.task, Categories):
            values = jax.nn.one_hot(labels, spec.task.classes)
        return weighted_sum(jnp.exp(belief.log_probs), values)

    def mode(belief: Weights, state: State | None = None) -> Task:
        """Returns the most probable task; of equally probable ones, the nearest to `state`."""
        if state is None or not isinstance(env, HasGoal):
            best = jnp.argmax(belief.log_probs)
        else:
            distance = jax.vmap(env.distance, in_axes=(None, 0))(state, tasks)
            tied = belief.log_probs > jnp.max(belief.log_probs) - _TIE
            best = jnp.argmin(jnp.where(tied, distance, jnp.inf))
        return _take(tasks, best)

    def sample(belief: Weights, key: Key) -> Task:
        return _take(tasks, _draw(key, jnp.exp(belief.log_probs)))

    def entropy(belief: Weights) -> Array:
        return -jnp.sum(jnp.exp(belief.log_probs) * belief.log_probs)

    def probabilities(belief: Weights) -> Array:
        return jnp.exp(belief.log_probs)

    origin = () if isinstance(spec.goal, Probabilities) else spec.goal.origin

    def _nearest(log_probs: Array, places: Array, obs: Array) -> Array:
        """Returns the index of the most probable of K, [] int32; of equally probable ones, the
        nearest to the agent, or the first where goals are not in the agent's space.

        log_probs: [K]; places: [K, D].
        """
        tied = log_probs > jnp.max(log_probs) - _TIE
        gaps = jnp.zeros(len(log_probs))
        if origin:
            gaps = jnp.linalg.norm(places - obs[jnp.asarray(origin)], axis=-1)
        return jnp.argmin(jnp.where(tied, gaps, jnp.inf)).astype(jnp.int32)

    bins = np.array_split(np.arange(len(log_prior)), _BINS)
    starts = np.asarray([part[0] for part in bins if len(part)])

    def statistics(belief: Weights, obs: Array) -> Array:
        """Returns statistics of the expert's goal: marginals, or moments and the masses of equal
        parts of the grid; and the most probable goal, of equally probable ones the nearest."""
        from taskbelief.networks import heads  # used by agents only, and slow to import

        head = heads.label_head(spec.goal)
        goals = jax.vmap(goal(env), in_axes=(None, 0))(obs, tasks)
        probs = jnp.exp(belief.log_probs)
        if isinstance(spec.goal, Categories):
            values = jax.nn.one_hot(goals, spec.goal.classes)
            marginals = weighted_sum(probs, values)  # [places, classes]
            logits = jnp.log(marginals + 1e-6)
            places = jnp.asarray(spec.goal.coordinates or np.zeros((spec.goal.classes, 0)))
            likely = jax.vmap(lambda row: _nearest(row, places, obs))(logits)
            assert isinstance(head, heads.IndependentCategorical)
            return head.summary(logits.reshape(-1), obs, likely)
        assert isinstance(spec.goal, Reals)
        mean = weighted_sum(probs, goals)
        deviation = jnp.sqrt(weighted_sum(probs, jnp.square(goals - mean)))
        likely = goals[_nearest(belief.log_probs, goals, obs)]
        return jnp.concatenate(
            [
                head.embed(mean, obs),
                deviation / jnp.asarray(spec.goal.scale),
                head.embed(likely, obs),
                jnp.add.reduceat(probs, starts),
            ]
        )

    return Posterior(
        init,
        update,
        log_prob,
        log_prob_label,
        mean,
        mode,
        sample,
        entropy,
        statistics,
        probabilities,
        labels,
        tasks,
    )


def _take(tasks: Task, index: Array) -> Task:
    return jax.tree.map(lambda leaf: leaf[index], tasks)


# ---- independent Bernoulli arms ---------------------------------------------------


_GRID = (np.arange(64) + 0.5) / 64  # of success probabilities
# to sum what lies below each of its points, and half of what lies there
_BELOW = np.tril(np.ones((64, 64)), -1) + 0.5 * np.eye(64)


def best_arm(belief: Counts) -> Array:
    """Returns the probability of each arm to have the highest success probability, [arms]: the
    integral of its density times the other arms' distribution functions, on a grid of 64 points.
    """
    log_density = belief.wins[:, None] * np.log(_GRID) + belief.losses[:, None] * np.log1p(-_GRID)
    density = jax.nn.softmax(log_density.astype(jnp.float32), axis=-1)  # [arms, 64]
    log_below = jnp.log(weighted_sum(density, _BELOW.T) + 1e-12)
    others = jnp.sum(log_below, axis=0) - log_below
    best = jnp.sum(density * jnp.exp(others), axis=-1)
    return best / jnp.sum(best)


def _conjugate(env: HasIndependentArms, num: int) -> Posterior:
    arms = env.spec.action.num
    with jax.ensure_compile_time_eval():
        tasks, log_prior = env.hypotheses(num)
        labels = jax.vmap(env.describe)(tasks)

    def init(obs: Array | None = None) -> Counts:
        """Returns Beta(1, 1), the uniform prior."""
        del obs
        return Counts(jnp.zeros(arms), jnp.zeros(arms))

    def update(belief: Counts, obs: Array, action: Array, reward: Array, next_obs: Array) -> Counts:
        del obs, next_obs
        pulled = jax.nn.one_hot(action, arms)
        won = (reward > 0.5).astype(jnp.float32)
        return Counts(belief.wins + pulled * won, belief.losses + pulled * (1.0 - won))

    def log_prob_label(belief: Counts, h: Array) -> Array:
        wins, losses = belief
        log_density = wins * jnp.log(h) + losses * jnp.log1p(-h) - betaln(wins + 1, losses + 1)
        return jnp.sum(log_density)

    def log_prob(belief: Counts, task: Task) -> Array:
        return log_prob_label(belief, env.describe(task))

    def mean(belief: Counts) -> Array:
        return (belief.wins + 1) / (belief.wins + belief.losses + 2)

    def mode(belief: Counts, state: State | None = None) -> Task:
        """Returns the mean: its best arm is the Bayes-greedy choice, and a Beta(1, 1) has no
        mode."""
        del state
        return env.of_probabilities(mean(belief))

    def sample(belief: Counts, key: Key) -> Task:
        return env.of_probabilities(jax.random.beta(key, belief.wins + 1, belief.losses + 1))

    def entropy(belief: Counts) -> Array:
        a, b = belief.wins + 1, belief.losses + 1
        each = betaln(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b)
        return jnp.sum(each + (a + b - 2) * digamma(a + b))

    def statistics(belief: Counts, obs: Array) -> Array:
        """Returns [3 arms]: 1 + log P(best) / log(arms) of each arm, which is 0 under the prior and
        1 of a certain one, and its mean and deviation, in deviations of the prior."""
        del obs
        best = 1.0 + jnp.log(best_arm(belief) + 1e-4) / np.log(arms)  # 1e-4: hopeless arms tie
        pulls = belief.wins + belief.losses + 2
        p = mean(belief)
        deviation = jnp.sqrt(p * (1 - p) / (pulls + 1))
        return jnp.concatenate([best, jnp.concatenate([p - 0.5, deviation]) * np.sqrt(12.0)])

    def probabilities(belief: Counts) -> Array:
        fits = weighted_sum(belief.wins, jnp.log(labels).T)
        fits += weighted_sum(belief.losses, jnp.log1p(-labels).T)
        return jax.nn.softmax(log_prior + fits)

    return Posterior(
        init,
        update,
        log_prob,
        log_prob_label,
        mean,
        mode,
        sample,
        entropy,
        statistics,
        probabilities,
        labels,
        tasks,
    )
