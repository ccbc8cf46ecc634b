"""gymnax and Brax environments as environments of this library: their hidden parameters are the
task, and every agent can be trained on them.

    pendulum = taskbelief.from_gymnax(
        "Pendulum-v1", sample_params, describe, name="pendulum", episode_steps=100
    )
    taskbelief.train(pendulum, agent="belief")

A meta-episode lasts for `episodes` times `episode_steps` steps on one task. Where an episode
terminates before its time, another one of the same task begins. An environment that pays 1 for
each step survived therefore pays as much to those who fall: the fall has to cost something. The
time limits of the two libraries are not used.

What both functions return is a frozen dataclass of settings (`episode_steps`, `episodes`,
`train_tasks`, `holdout_tasks`, `reward_scale`), which are flags of the command line and can be
changed by `dataclasses.replace`. A module's variable that holds it, and has the name `name`, is the
environment "package.module:name" of the command line and of saved agents.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs._settings import require, require_split
from taskbelief.types import (
    ActionSpec,
    Array,
    Categories,
    Continuous,
    Discrete,
    Env,
    EnvSpec,
    Key,
    LabelSpec,
    Reals,
    State,
    Task,
)

Sample = Callable[[Key], Task]
Describe = Callable[[Task], Array]
Expert = Callable[[Key, State, Task], Array]
Reset = Callable[[Key, Task], tuple[Any, State]]
Step = Callable[[Key, State, Array, Task], tuple[Any, State, Array, Array]]


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
    """A gymnax 1.0 environment whose parameters are the task.

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

    return _environment(
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
    """`action`, [num] in [-1, 1], in the box from `low` to `high`."""
    return low + (action.reshape(low.shape) + 1) / 2 * (high - low)


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
    """A Brax environment with a hidden body, a hidden reward, or both.

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

    return _environment(
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
    """A copy of a Brax environment, and of the wrappers around it, with another `sys`."""
    copied = copy.copy(env)
    if copied.unwrapped is copied:
        copied.sys = system
    else:
        copied.env = _with_system(env.env, system)
    return copied


# ---- what both have in common -----------------------------------------------------


class _Source(NamedTuple):
    """The functions of an environment, with the arguments and results of `_Foreign`'s."""

    sample: Sample
    describe: Describe
    reset: Reset
    step: Step
    expert: Expert | None
    obs_dim: int
    action: ActionSpec
    task: LabelSpec
    terminates: bool


@dataclass(frozen=True)
class _Foreign:
    """The settings of an environment. Each one is a class of its own, which holds its functions."""

    source: ClassVar[_Source]

    episode_steps: int
    """agent steps in an episode, at most"""
    episodes: int
    """episodes in a meta-episode"""
    train_tasks: int
    """size of the training set"""
    holdout_tasks: int
    """size of the hold-out set"""
    reward_scale: float
    """multiplies all rewards"""

    def __post_init__(self) -> None:
        _check(dataclasses.asdict(self))

    @property
    def spec(self) -> EnvSpec:
        source = self.source
        return EnvSpec(
            obs_dim=source.obs_dim,
            action=source.action,
            task=source.task,
            episode_steps=self.episode_steps,
            episodes_per_task=self.episodes,
            reward_range=(-np.inf, np.inf),
            terminates=source.terminates,
        )

    def sample_task(self, key: Key) -> Task:
        return self.source.sample(key)

    def task_set(self, split: str, num: int | None = None) -> Task:
        require_split(split)
        num = (
            {"train": self.train_tasks, "holdout": self.holdout_tasks}[split]
            if num is None
            else num
        )
        require(num >= 1, "num", num, "at least 1")
        return jax.vmap(self.sample_task)(_set_keys(split, num))

    def describe(self, task: Task) -> Array:
        return self.source.describe(task)

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        return self.source.reset(key, task)

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        obs, state, reward, terminated = self.source.step(key, state, action, task)
        return obs, state, self.reward_scale * reward, terminated


class _WithExpert(_Foreign):
    """Heads for the task itself."""

    def goal(self, obs: Array, task: Task) -> Array:
        del obs
        return self.describe(task)

    def distance(self, state: State, task: Task) -> Array:
        del state, task
        return jnp.zeros(())

    def expert(self, key: Key, state: State, task: Task) -> Array:
        assert self.source.expert is not None
        return self.source.expert(key, state, task)


def _check(settings: dict[str, Any]) -> None:
    for field in ("episode_steps", "episodes", "train_tasks", "holdout_tasks"):
        require(settings[field] >= 1, field, settings[field], "at least 1")
    require(settings["reward_scale"] > 0, "reward_scale", settings["reward_scale"], "positive")


def _set_keys(split: str, num: int) -> Key:
    """[num]: one for each task of a set; the first ones are the same for any `num`."""
    key = jax.random.key({"train": 0, "holdout": 1}[split])
    return jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num))


def _environment(
    function: str,
    name: str,
    sample_params: Sample,
    describe: Describe,
    reset: Reset,
    step: Step,
    action_spec: ActionSpec,
    terminates: bool,
    task: LabelSpec | None,
    expert: Expert | None,
    **settings: Any,
) -> Env:
    """Returns the instance of a new class in the module of `sample_params`, with `settings` as
    defaults.

    `reset` and `step` are as the other library has them: observations of any shape, rewards and
    ends that may be Python's, states of changing types.
    """
    _check(settings)

    def sample(key: Key) -> Task:
        return jax.tree.map(jnp.asarray, sample_params(key))

    def told(params: Task) -> Array:
        h = jnp.asarray(describe(params))
        return h.astype(jnp.int32 if isinstance(task, Categories) else jnp.float32).reshape(
            h.shape or (1,)
        )

    key = jax.random.key(0)
    one = jax.eval_shape(sample, key)
    size = jax.eval_shape(told, one).shape
    if len(size) != 1:
        raise ValueError(f"{function}: describe gives an array of shape {list(size)}, not [num]")
    if task is None:
        task = _reals(jax.jit(jax.vmap(lambda key: told(sample(key)))), settings["train_tasks"])
    wanted = task.places if isinstance(task, Categories) else task.num
    if size != (wanted,):
        raise ValueError(f"{function}: describe gives {size[0]} numbers, and task has {wanted}")

    first, state = jax.eval_shape(reset, key, one)
    if not hasattr(first, "shape"):
        raise ValueError(
            f"{function}: observations are a {type(first).__name__}, not an array;"
            " choose an entry of them in a wrapper"
        )
    after = jax.eval_shape(step, key, state, action_spec.none(), one)
    dtypes = _dtypes(function, state, after[1])

    def plain(obs: Any, state: State) -> tuple[Array, State]:
        return jnp.ravel(obs).astype(jnp.float32), jax.tree.map(_cast, state, dtypes)

    def begin(key: Key, params: Task) -> tuple[Array, State]:
        return plain(*reset(key, params))

    def go(key: Key, state: State, action: Array, params: Task) -> tuple[Any, ...]:
        obs, after, reward, terminated = step(key, state, action_spec.legal(action), params)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return *plain(obs, after), reward, jnp.asarray(terminated, bool).reshape(())

    obs_dim = int(np.prod(first.shape))
    source = _Source(sample, told, begin, go, expert, obs_dim, action_spec, task, terminates)
    made = dataclasses.make_dataclass(
        name,
        [(field, type(value), value) for field, value in settings.items()],
        bases=(_Foreign if expert is None else _WithExpert,),
        namespace={"source": source, "__module__": getattr(sample_params, "__module__", __name__)},
        frozen=True,
    )
    return made()


def _reals(described: Callable[[Key], Array], num: int) -> Reals:
    """Standardised by what is `described` of the training tasks; a constant by 1."""
    h = np.asarray(described(_set_keys("train", num)), np.float64)
    scale = np.std(h, axis=0)
    scale = np.where(scale > 1e-6 * np.abs(h).max(axis=0), scale, 1.0)
    centre = tuple(h.mean(axis=0).tolist())
    return Reals(len(centre), centre, tuple(scale.tolist()))


def _dtypes(function: str, state: State, after: State) -> Any:
    """A state's types, which reset and step need not agree on (Python's numbers, say)."""
    forms = [
        (jax.tree.structure(each), [leaf.shape for leaf in jax.tree.leaves(each)])
        for each in (state, after)
    ]
    if forms[0] != forms[1]:
        raise ValueError(f"{function}: step returns another kind of state than reset")
    return jax.tree.map(
        lambda one, other: (
            one.dtype if one.dtype == other.dtype else jnp.promote_types(one.dtype, other.dtype)
        ),
        state,
        after,
    )


def _cast(leaf: Any, dtype: Any) -> Array:
    """Without a weak type, so that states of any step are alike."""
    leaf = jnp.asarray(leaf)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf.astype(dtype)
