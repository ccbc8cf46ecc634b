"""Brax environments with a hidden body, a hidden reward, or both."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from taskbelief.foreign._environment import Describe, Expert, Sample, build
from taskbelief.types import Array, Continuous, Env, Key, LabelSpec, State, Task


def from_brax(
    env: Any,
    sample_params: Sample,
    describe: Describe,
    *,
    episode_steps: int,
    system: Callable[[Any, Task], Any] | None = None,
    reward: Callable[[Any, Array, Any, Task], Array] | None = None,
    name: str | None = None,
    episodes: int = 1,
    train_tasks: int = 100,
    holdout_tasks: int = 250,
    reward_scale: float = 1.0,
    terminates: bool = True,
    task: LabelSpec | None = None,
    expert: Expert | None = None,
) -> Env:
    """Returns a Brax environment with a hidden body, a hidden reward, or both.

    Actions are in [-1, 1]^num, as Brax has them; episodes end where `done` says so. The
    environment is without the wrappers that Brax trains with.

    Args:
      env: a name that `brax.envs.get_environment` knows (with its default backend), or a Brax
        environment.
      sample_params: key -> params, any pytree: a task. The training and the hold-out tasks are
        draws, too.
      describe: params -> what of them is hidden, a number or a vector [num]: the label.
      episode_steps: of an episode, at most.
      system: (the environment's `sys`, params) -> that of the task, of the same shapes, as
        Brax's own domain randomisation has it (masses, gears, friction); None: it is the same.
      reward: (state, action [num], next state, params) -> reward, a number, in place of the
        environment's own. States are Brax's, with `obs`, `pipeline_state`, `reward` and
        `metrics`. None: the reward stays.
      name, episodes, train_tasks, holdout_tasks, reward_scale, terminates, task, expert: as of
        `from_gymnax`.

    Raises:
      ValueError: something unknown, or nothing to train on, in one sentence.
      ImportError: Brax is missing.
    """
    try:
        from brax import envs
        from brax.envs.wrappers import training
    except ImportError as error:
        raise ImportError("from_brax needs Brax: pip install 'taskbelief[adapters]'") from error
    if isinstance(env, str):
        try:
            env = envs.get_environment(env)
        except KeyError as error:
            raise ValueError(f"from_brax: Brax has no environment {env!r}") from error
    if not isinstance(env, envs.Env):
        raise ValueError(
            f"from_brax: env is a {type(env).__name__}, not a name or a Brax environment"
        )
    layer = env
    while isinstance(layer, envs.Wrapper):
        if type(layer).__module__ == training.__name__:
            raise ValueError(
                f"from_brax: hand over the environment without {type(layer).__name__}:"
                " batches, time limits and resets are added here"
            )
        layer = layer.env
    if system is None and reward is None:
        raise ValueError("from_brax: without system or reward the params would change nothing")
    if system is not None and not hasattr(env.unwrapped, "sys"):
        raise ValueError(f"from_brax: {type(env.unwrapped).__name__} has no sys to be changed")

    def of(task: Task) -> Any:
        return env if system is None else _with_system(env, system(env.unwrapped.sys, task))

    def reset(key: Key, task: Task) -> tuple[Any, State]:
        state = of(task).reset(key)
        return state.obs, state

    def step(key: Key, state: State, action: Array, task: Task) -> tuple[Any, State, Array, Array]:
        del key  # Brax keeps the chance of later steps, if there is any, in its state
        # Brax writes into these
        before = state.replace(metrics=dict(state.metrics), info=dict(state.info))
        after = of(task).step(before, action)
        paid = after.reward if reward is None else reward(state, action, after, task)
        return after.obs, after, paid, after.done > 0.5

    return build(
        "from_brax",
        name or type(env.unwrapped).__name__,
        sample_params,
        describe,
        reset,
        step,
        Continuous(int(env.action_size)),
        terminates,
        task,
        expert,
        episode_steps=episode_steps,
        episodes=episodes,
        train_tasks=train_tasks,
        holdout_tasks=holdout_tasks,
        reward_scale=reward_scale,
    )


def _with_system(env: Any, system: Any) -> Any:
    """Returns a copy of a Brax environment, and of the wrappers around it, with another `sys`."""
    copied = copy.copy(env)
    if copied.unwrapped is copied:
        copied.sys = system
    else:
        copied.env = _with_system(env.env, system)
    return copied
