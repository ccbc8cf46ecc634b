"""Reference policies that do not know the task and act on the exact posterior.

An agent with good inference reaches the explorer's score; an agent that also explores for the sake
of information exceeds it.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from taskbelief import posterior, rollout
from taskbelief.posterior import Belief, Counts
from taskbelief.rollout import Scripted
from taskbelief.types import (
    Array,
    Env,
    HasExpert,
    HasIndependentArms,
    HasLikelihood,
    Key,
    State,
    Task,
)


def names(env: Env) -> tuple[str, ...]:
    """Returns the names of the reference policies of `env`."""
    found = ["random"]
    if isinstance(env, HasExpert):
        found.append("expert")
        if isinstance(env, HasLikelihood):
            found.append("explorer")
        if isinstance(env, HasIndependentArms):
            found += ["thompson", "ucb", "gittins"]
    return tuple(found)


def make(env: Env, name: str) -> Scripted:
    """Returns the reference policy of that name, one of `names(env)`."""
    makers = {
        "random": lambda env: rollout.uniform_random(env.spec),
        "expert": rollout.expert,
        "explorer": explorer,
        "thompson": thompson,
        "ucb": upper_confidence,
        "gittins": gittins,
    }
    return makers[name](env)


def policies(env: Env) -> dict[str, Scripted]:
    """Returns the reference policies of `env`, by name."""
    return {name: make(env, name) for name in names(env)}


def explorer(env: Env, num: int = 1000) -> Scripted:
    """Returns the expert for the most probable task; of equally probable ones, the nearest.

    For the bandit: the arm of the highest posterior mean (Bayes-greedy).
    """
    exact, expert = posterior.make(env, num), rollout.expert(env)

    def act(belief: Belief, key: Key, state: State, task: Task) -> Array:
        del task
        return expert.act((), key, state, exact.mode(belief, state))

    return Scripted(exact.init, act, exact.update)


def thompson(env: Env, num: int = 1000) -> Scripted:
    """Returns the expert for a task drawn from the posterior, with a new draw at each step."""
    exact, expert = posterior.make(env, num), rollout.expert(env)

    def act(belief: Belief, key: Key, state: State, task: Task) -> Array:
        del task
        return expert.act((), key, state, exact.sample(belief, key))

    return Scripted(exact.init, act, exact.update)


def upper_confidence(env: Env, bonus: float = 0.3) -> Scripted:
    """Returns UCB for Bernoulli arms: the highest mean + bonus * sqrt(log(pulls) / pulls of the
    arm).

    Counts start at one win and one loss per arm, the Beta(1, 1) prior, so that an arm without
    pulls has a finite bound; `bonus` 0.3 was tuned by hand for 20 arms, 100 pulls.
    """
    exact = posterior.make(env)

    def act(belief: Counts, key: Key, state: State, task: Task) -> Array:
        del key, state, task
        pulls = belief.wins + belief.losses + 2
        bound = exact.mean(belief) + bonus * jnp.sqrt(jnp.log(jnp.sum(pulls)) / pulls)
        return jnp.argmax(bound).astype(jnp.int32)

    return Scripted(exact.init, act, exact.update)


def gittins(env: Env) -> Scripted:
    """Returns the policy that pulls the arm of the highest finite-horizon Gittins index (Kaufmann
    2018, "FH-Gittins"): nearly Bayes-optimal on the bandit.

    Raises:
      ValueError: the environment's posterior is not one of independent Bernoulli arms.
    """
    if not isinstance(env, HasIndependentArms):
        raise ValueError("gittins: needs independent Bernoulli arms, as bandit has")
    exact = posterior.make(env)
    horizon = env.spec.task_steps
    index = jnp.asarray(gittins_index(horizon))

    def act(belief: Counts, key: Key, state: State, task: Task) -> Array:
        del key, state, task
        left = horizon - jnp.sum(belief.wins + belief.losses).astype(jnp.int32)
        wins, losses = (count.astype(jnp.int32) for count in belief)
        return jnp.argmax(index[left - 1, wins, losses]).astype(jnp.int32)

    return Scripted(exact.init, act, exact.update)


@functools.lru_cache
def gittins_index(horizon: int, grid: int = 401) -> np.ndarray:
    """Returns the finite-horizon Gittins index of Bernoulli arms with the prior Beta(1, 1).

    The index of an arm with n pulls left is the sure reward per pull that is worth as much as
    the arm, if the choice between the two is free at each pull and the sure one is kept once
    chosen:

      V_n(w, l) = max(n x, p [1 + V_{n-1}(w + 1, l)] + (1 - p) V_{n-1}(w, l + 1)),
      p = (w + 1) / (w + l + 2)

    The index is the x at which both are equal, by linear interpolation on a grid of x.

    Returns:
      [n - 1, wins, losses] float32 for n = 1 ... horizon pulls left; entries with more than
      horizon - n pulls behind them are 0.
    """
    sure = np.linspace(0.0, 1.0, grid)
    wins, losses = np.indices((horizon, horizon))
    p = ((wins + 1) / (wins + losses + 2))[..., None]
    index: np.ndarray = np.zeros((horizon, horizon, horizon), np.float32)
    value = np.zeros((horizon + 1, horizon + 1, grid))  # V_{n-1}(w, l) for each x
    for left in range(1, horizon + 1):
        size = horizon - left + 1  # possible counts: 0 ... size - 1
        arm = p[:size, :size] * (1.0 + value[1 : size + 1, :size])
        arm += (1.0 - p[:size, :size]) * value[:size, 1 : size + 1]
        gain = arm - left * sure  # falls in x, from at least 0 to at most 0
        last = np.clip(np.sum(gain > 0.0, axis=-1) - 1, 0, grid - 2)
        above, below = (
            np.take_along_axis(gain, at[..., None], axis=-1)[..., 0] for at in (last, last + 1)
        )
        share = above / np.maximum(above - below, 1e-12)
        reachable = wins[:size, :size] + losses[:size, :size] < size
        found = (last + np.clip(share, 0.0, 1.0)) / (grid - 1)
        index[left - 1, :size, :size] = np.where(reachable, found, 0.0)
        value[:size, :size] = np.maximum(arm, left * sure)
    return index
