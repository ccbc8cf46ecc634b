"""gymnax environments, whose parameters are the task."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from taskbelief.foreign._environment import Describe, Expert, Sample, build
from taskbelief.types import (
    ActionSpec,
    Array,
    Continuous,
    Discrete,
    Env,
    Key,
    LabelSpec,
    State,
    Task,
)


def from_gymnax(
    env: Any,
    sample_params: Sample,
    describe: Describe,
    *,
    name: str | None = None,
    episode_steps: int | None = None,
    episodes: int = 1,
    train_tasks: int = 100,
    holdout_tasks: int = 250,
    reward_scale: float = 1.0,
    terminates: bool = True,
    task: LabelSpec | None = None,
    expert: Expert | None = None,
) -> Env:
    """Returns a gymnax 1.0 environment, whose parameters are the task.

    Discrete actions stay. Continuous ones are clipped to [-1, 1], with 0 in place of NaN, and
    scaled to the box that `env.action_space(env.default_params)` gives. Actions and observations
    (float32) are flattened. gymnax's auto-reset is not used: `reset_env` and `step_env` are.

    Args:
      env: a name that `gymnax.make` knows, or a gymnax environment.
      sample_params: key -> params, a pytree that `env` takes as its params: a task. Usually
        `env.default_params.replace(...)`. The training and the hold-out tasks are draws, too.
      describe: params -> what of them is hidden, a number or a vector [num]: the label.
      name: of the module's variable that holds the environment; None: the class of `env`.
      episode_steps: of an episode, at most; None: the default params' `max_steps_in_episode`.
      episodes: in a meta-episode.
      train_tasks, holdout_tasks: sizes of the sets. `check_env` refuses sets with a task twice:
        among thousands of draws of one float32 there may be two alike.
      reward_scale: multiplies the rewards that agents see and learn from, and the returns that
        are reported. About 1 / (the largest reward of a step) is easy to learn from.
      terminates: episodes may end before their time; False saves looking for it.
      task: the family of `describe`; None: real numbers, standardised by their mean and standard
        deviation over the training tasks. `Categories` want int32 [places].
      expert: (key, state of `env`, params) -> an action in [-1, 1]^num or 0 ... num - 1: of a
        policy that knows the task, so that there are scores; None: scores are returns.

    Raises:
      ValueError: something unknown, or nothing to train on, in one sentence.
      ImportError: gymnax is missing.
    """
    try:
        import gymnax
        from gymnax.environments import environment, spaces
    except ImportError as error:
        raise ImportError("from_gymnax needs gymnax: pip install 'taskbelief[adapters]'") from error
    inner = gymnax.make(env)[0] if isinstance(env, str) else env
    if not isinstance(inner, environment.Environment):
        raise ValueError(
            f"from_gymnax: env is a {type(inner).__name__}, not a name or a gymnax environment"
            " (gymnax.make returns one and its params)"
        )
    params = inner.default_params
    own_steps = getattr(params, "max_steps_in_episode", None)
    if episode_steps is None:
        if own_steps is None:
            raise ValueError("from_gymnax: episode_steps is wanted, this environment has no limit")
        episode_steps = int(own_steps)
    space = inner.action_space(params)
    if isinstance(space, spaces.Discrete):
        action: ActionSpec = Discrete(int(space.n))
        to_space = _unchanged
    elif isinstance(space, spaces.Box):
        low, high = (
            np.broadcast_to(np.asarray(end, np.float32), space.shape)
            for end in (space.low, space.high)
        )
        if not np.all(np.isfinite(low) & np.isfinite(high)):
            raise ValueError(f"from_gymnax: actions without bounds, {space}, cannot be scaled")
        action = Continuous(int(np.prod(space.shape)))
        to_space = functools.partial(_scaled, low, high)
    else:
        raise ValueError(f"from_gymnax: actions are {space}, neither Discrete nor a Box")

    def step(key: Key, state: State, action: Array, task: Task) -> tuple[Any, State, Array, Array]:
        obs, after, reward, terminated, _ = inner.step_env(key, state, to_space(action), task)
        return obs, after, reward, terminated

    return build(
        "from_gymnax",
        name or type(inner).__name__,
        sample_params,
        describe,
        inner.reset_env,
        step,
        action,
        terminates,
        task,
        expert,
        episode_steps=episode_steps,
        episodes=episodes,
        train_tasks=train_tasks,
        holdout_tasks=holdout_tasks,
        reward_scale=reward_scale,
    )


def _unchanged(action: Array) -> Array:
    return action


def _scaled(low: np.ndarray, high: np.ndarray, action: Array) -> Array:
    """Returns `action`, [num] in [-1, 1], in the box from `low` to `high`."""
    return low + (action.reshape(low.shape) + 1) / 2 * (high - low)
