"""The parts that environments of all other libraries share."""

from __future__ import annotations

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


class Source(NamedTuple):
    """The functions of an environment, with the arguments and results of `Foreign`'s."""

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
class Foreign:
    """The settings of an environment. Each one is a class of its own, which holds its functions."""

    source: ClassVar[Source]

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


class WithExpert(Foreign):
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


def build(
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
    source = Source(sample, told, begin, go, expert, obs_dim, action_spec, task, terminates)
    made = dataclasses.make_dataclass(
        name,
        [(field, type(value), value) for field, value in settings.items()],
        bases=(Foreign if expert is None else WithExpert,),
        namespace={"source": source},
        frozen=True,
    )
    # not in the namespace: from Python 3.12 on, make_dataclass sets its caller's module
    made.__module__ = getattr(sample_params, "__module__", __name__)
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
