"""Gymnasium: `make("numpad") -> gymnasium.Env`, `make_vec("numpad", 64) -> VectorEnv`.

Also by id, `gymnasium.make("taskbelief/Numpad-v0", **settings)` and `gymnasium.make_vec`, once
this package is installed or this module has been imported.

An episode is a whole meta-episode: `reset` draws a task, and `truncated` says that the task's
time is up. Episodes within a task are reset inside; `info["episode_end"]` names their ends, and
`info["task_start"]` the first observation of a task. The observation holds what the
environment shows and, with `history=True`, the previous action, the previous reward and a flag
where the state was reset:

    obs[:obs_dim]                what the environment shows
    obs[obs_dim : obs_dim + num] the action before (one-hot if discrete), zeros at a task's start
    obs[-2]                      the reward before
    obs[-1]                      1 where the state has just been reset

`tasks=` says where tasks come from: "train" (default), "holdout", or "all" for p(w). One task
for ever: `make(..., task=task)` or `reset(options={"task": task})`, batched for a vector
environment; `reset(options={"task": None})` goes back to drawing.

Actions outside the box are clipped. An arm that there is not, a wrong shape and NaN are
`gymnasium.error.InvalidAction`.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import error, spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from taskbelief import registry
from taskbelief.adapters import _gymnasium_ids
from taskbelief.adapters._meta_episode import Play, View, where
from taskbelief.types import Array, Continuous, Env, Task

_RENDER = {"render_modes": ["rgb_array"], "render_fps": 10}


class _Programs(NamedTuple):
    """Compiled functions of one environment. Keys are raw key data: their dispatch is faster."""

    seed: Any  # (seed) -> key
    draw: Any  # (key) -> key, task
    start: Any  # (key, task) -> (key, play), obs
    step: Any  # ((key, play), task, action) -> (key, play), seen [size + 3 (+ obs_dim)]


@functools.lru_cache(maxsize=64)
def _programs(view: View) -> _Programs:
    """Shared by all environments of equal settings."""

    def step(carry: Any, task: Task, action: Array) -> tuple[Any, Array]:
        key, play = carry
        key, now, _ = _split(key)
        play, seen = view.step(now, play, action, task)
        # one array: each that crosses to the host costs as much as a step
        flags = jnp.stack([seen.reward, seen.over, seen.episode_end])
        parts = [seen.obs, flags.astype(jnp.float32)]
        return (key, play), jnp.concatenate(parts + [seen.reached] * view.resets)

    def start(key: Array, task: Task) -> tuple[Any, Array]:
        key, now, _ = _split(key)
        obs, play = view.start(now, task)
        return (key, play), obs

    def draw(key: Array) -> tuple[Array, Task]:
        key, now, _ = _split(key)
        return key, view.draw(now)

    def seed(number: Array) -> Array:
        return jax.random.key_data(jax.random.key(number))

    return _Programs(*map(jax.jit, (seed, draw, start, step)))


def _split(key: Array) -> tuple[Array, Array, Array]:
    """(raw key to go on with, key, key)"""
    after, one, other = jax.random.split(jax.random.wrap_key_data(key), 3)
    return jax.random.key_data(after), one, other


class TaskEnv(gymnasium.Env):
    """An environment of this library as Gymnasium has them."""

    metadata = _RENDER

    def __init__(
        self,
        env: Env,
        *,
        tasks: str = "train",
        history: bool = True,
        task: Task | None = None,
        render_mode: str | None = None,
    ) -> None:
        _check_render_mode(render_mode)
        self.env = env
        self.view = View(env, tasks, history)
        self.render_mode = render_mode
        self.observation_space, self.action_space = _spaces(self.view)
        self.task: Any = None  # the task that is being played, once there was a reset
        self.fixed_task: Any = task  # the one that is played for ever; None: drawn at each reset
        self._programs = _programs(self.view)
        self._key: Any = None
        self._carry: Any = None  # None: a reset must come first
        self._states: list[Any] = []
        self._rewards: list[float] = []

    @property
    def name(self) -> str:
        """The name that `taskbelief.make` knows it by."""
        return registry.name_of(self.env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None or self._key is None:
            self._key = self._programs.seed(np.uint32(self.np_random.integers(2**32)))
        self.fixed_task = _told(options, self.fixed_task)
        if self.fixed_task is None:
            self._key, self.task = self._programs.draw(self._key)
        else:
            self.task = self.fixed_task
        self._carry, obs = self._programs.start(self._key, self.task)
        self._key = self._carry[0]
        if self.render_mode:
            self._states, self._rewards = [self._on_host()], []
        return np.array(obs), {"episode_end": False, "task_start": True}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._carry is None:
            raise error.ResetNeeded("reset comes before step")
        carry, seen = self._programs.step(self._carry, self.task, self._checked(action))
        self._carry, self._key = carry, carry[0]
        seen = np.array(seen)  # a copy, since what JAX hands out cannot be written to
        size = self.view.size
        reward, over, episode_end = seen[size : size + 3].tolist()
        info: dict[str, Any] = {"episode_end": episode_end > 0, "task_start": False}
        if self.view.resets:
            info["reached"] = seen[size + 3 :]
        if self.render_mode:
            self._states.append(self._on_host())
            self._rewards.append(reward)
            if info["episode_end"] and not over:  # the state is the next episode's first
                self._states, self._rewards = self._states[-1:], []
        if over:
            self._carry = None
        return seen[:size], reward, False, over > 0, info

    def render(self) -> np.ndarray | None:
        """The state, and the way to it since the episode began, as [height, width, 3] uint8."""
        if self.render_mode is None:
            return None
        if self.task is None:
            raise error.ResetNeeded("reset comes before render")
        return _picture(self.env, self.task, self._states, self._rewards)

    def _on_host(self) -> Any:
        return jax.tree.map(np.asarray, self._carry[1].state)

    def _checked(self, action: Any) -> np.ndarray:
        spec = self.env.spec.action
        if isinstance(spec, Continuous):
            return _box(action, (spec.num,))
        return _arms(action, (), spec.num)


class TaskVectorEnv(gymnasium.vector.VectorEnv):
    """A batch of tasks side by side, in one compiled step.

    With `AutoresetMode.NEXT_STEP` the step after the last of a meta-episode starts the next
    one: its action is ignored and its reward is 0. With `SAME_STEP` the last step does, and
    `info["final_obs"]` and `info["final_info"]` hold what it led to.
    """

    def __init__(
        self,
        env: Env,
        num_envs: int,
        *,
        tasks: str = "train",
        history: bool = True,
        task: Task | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs={num_envs!r}: must be a whole number, at least 1")
        _check_render_mode(render_mode)
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = _RENDER | {"autoreset_mode": self.autoreset_mode}
        self.env = env
        self.num_envs = int(num_envs)
        self.view = View(env, tasks, history)
        self.render_mode = render_mode
        self.single_observation_space, self.single_action_space = _spaces(self.view)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.fixed_task: Any = task  # batched
        self._keys: Any = None
        self._carry: Any = None
        self._frames: list[tuple[list[Any], list[float]]] = []

    @property
    def name(self) -> str:
        """The name that `taskbelief.make` knows it by."""
        return registry.name_of(self.env)

    @property
    def tasks(self) -> Any:
        """The tasks that are being played, batched; None before the first reset."""
        return None if self._carry is None else self._carry[1]

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """`seed`: of all, or a list with one for each of them; of equal seeds come equal tasks."""
        several = seed is not None and not isinstance(seed, int | np.integer)
        super().reset(seed=None if several else seed)  # type: ignore[arg-type]
        programs = _batched(self.view, self.autoreset_mode, self.fixed_task is None)
        if several:
            numbers = [np.random.default_rng(s).integers(2**32) for s in seed]  # type: ignore
            if len(numbers) != self.num_envs:
                raise ValueError(f"{len(numbers)} seeds for {self.num_envs} environments")
            self._keys = programs.seed(np.asarray(numbers, np.uint32))
        elif seed is not None or self._keys is None:
            numbers = self.np_random.integers(2**32, size=self.num_envs)
            self._keys = programs.seed(np.asarray(numbers, np.uint32))
        self.fixed_task = _told(options, self.fixed_task)
        if self.fixed_task is None:
            self._keys, tasks = programs.draw(self._keys)
        else:
            tasks = self.fixed_task
        (self._keys, play), obs = programs.start(self._keys, tasks)
        self._carry = (self._keys, tasks, play, np.zeros(self.num_envs, bool))
        if self.render_mode:
            self._frames = [([self._on_host(i)], []) for i in range(self.num_envs)]
        begun: np.ndarray = np.ones(self.num_envs, bool)
        return np.array(obs), _masked({"episode_end": ~begun, "task_start": begun})

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._carry is None:
            raise error.ResetNeeded("reset comes before step")
        spec = self.env.spec.action
        if isinstance(spec, Continuous):
            actions = _box(actions, (self.num_envs, spec.num))
        else:
            actions = _arms(actions, (self.num_envs,), spec.num)
        programs = _batched(self.view, self.autoreset_mode, self.fixed_task is None)
        self._carry, seen = programs.step(self._carry, actions)
        self._keys = self._carry[0]
        obs, last_obs, reward, over, episode_end, task_start, reached = map(np.array, seen)
        info: dict[str, Any] = {"episode_end": episode_end, "task_start": task_start}
        if self.view.resets:
            info["reached"] = reached
        _masked(info)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            final: np.ndarray = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(over):
                final[i] = last_obs[i]
            last_info = {
                "episode_end": over,
                "_episode_end": over,
                "task_start": np.zeros_like(over),
                "_task_start": over,
            }
            info |= {"final_obs": final, "_final_obs": over}
            info |= {"final_info": last_info, "_final_info": over}
        if self.render_mode:
            self._remember(reward, task_start | (episode_end & ~over))
        return obs, reward, np.zeros(self.num_envs, bool), over, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """For each environment what `TaskEnv.render` gives."""
        if self.render_mode is None:
            return None
        if self._carry is None:
            raise error.ResetNeeded("reset comes before render")
        tasks = jax.tree.map(np.asarray, self.tasks)
        return tuple(
            _picture(self.env, jax.tree.map(lambda leaf, i=i: leaf[i], tasks), states, rewards)
            for i, (states, rewards) in enumerate(self._frames)
        )

    def _remember(self, reward: np.ndarray, begun: np.ndarray) -> None:
        for i, (states, rewards) in enumerate(self._frames):
            state = self._on_host(i)
            if begun[i]:
                self._frames[i] = ([state], [])
            else:
                states.append(state)
                rewards.append(float(reward[i]))

    def _on_host(self, i: int) -> Any:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[i], self._carry[2].state)


class _Batched(NamedTuple):
    """As `_Programs`, of a batch; `step` resets by itself."""

    seed: Any
    draw: Any
    start: Any
    step: Any  # (carry, actions) -> carry, seen


@functools.lru_cache(maxsize=64)
def _batched(view: View, mode: AutoresetMode, redraw: bool) -> _Batched:
    """Shared by all environments of equal settings. `redraw`: another task at each reset."""
    one = _programs(view)

    def step(carry: Any, actions: Array) -> tuple[Any, Any]:
        keys, tasks, play, was_over = carry
        keys, now, again = jax.vmap(_split)(keys)
        play, seen = jax.vmap(view.step)(now, play, actions, tasks)
        reward, over, episode_end = seen.reward, seen.over, seen.episode_end
        begins = over
        if mode == AutoresetMode.NEXT_STEP:
            begins = was_over
            over, episode_end = over & ~begins, episode_end & ~begins
            reward = jnp.where(begins, 0.0, reward)

        def start_again(old: Any) -> Any:
            draw_keys, start_keys = jax.vmap(jax.random.split, out_axes=1)(again)
            drawn = jax.vmap(view.draw)(draw_keys) if redraw else tasks
            return where(begins, (*jax.vmap(view.start)(start_keys, drawn), drawn), old)

        old: tuple[Array, Play, Task] = seen.obs, play, tasks
        obs, play, tasks = jax.lax.cond(jnp.any(begins), start_again, lambda old: old, old)
        shown = obs, seen.obs, reward, over, episode_end, begins, seen.reached
        return (keys, tasks, play, over), shown

    seed, draw, start = (jax.jit(jax.vmap(f)) for f in (one.seed, one.draw, one.start))
    return _Batched(seed, draw, start, jax.jit(step))


# ---- small parts ------------------------------------------------------------------


def _spaces(view: View) -> tuple[spaces.Space, spaces.Space]:
    """Of observations and of actions."""
    low, high = view.bounds()
    observations = spaces.Box(low, high, dtype=np.float32)
    action = view.env.spec.action
    if isinstance(action, Continuous):
        return observations, spaces.Box(-1.0, 1.0, (action.num,), np.float32)
    return observations, spaces.Discrete(action.num)


def _box(action: Any, shape: tuple[int, ...]) -> np.ndarray:
    action = _array(action, np.float32)
    if action.shape != shape:
        raise error.InvalidAction(f"an action of shape {action.shape}: must be {shape}")
    flat = action.ravel()
    if math.isnan(flat.dot(flat)):  # squares: of infinities comes no NaN
        raise error.InvalidAction(f"an action that is not a number: {action}")
    return action


def _array(action: Any, dtype: Any = None) -> np.ndarray:
    try:
        return np.asarray(action, dtype)
    except (TypeError, ValueError) as wrong:
        raise error.InvalidAction(f"an action that is no array: {wrong}") from wrong


def _arms(action: Any, shape: tuple[int, ...], num: int) -> Any:
    if not shape and isinstance(action, int | np.integer) and 0 <= action < num:
        return np.int32(action)  # the usual case, fast
    action = _array(action)
    if action.shape != shape or action.dtype.kind not in "iu":
        raise error.InvalidAction(
            f"an action of type {action.dtype} and shape {action.shape}: must be a whole number,"
            f" of shape {shape}"
        )
    low, high = (action, action) if not shape else (action.min(), action.max())
    if low < 0 or high >= num:
        raise error.InvalidAction(f"action {action}: must be between 0 and {num - 1}")
    return action.astype(np.int32)


def _told(options: dict[str, Any] | None, fixed: Any) -> Any:
    """The task to play for ever, after `options`."""
    unknown = set(options or ()) - {"task"}
    if unknown:
        raise ValueError(f"unknown options {', '.join(sorted(map(repr, unknown)))}: only 'task'")
    return options["task"] if options else fixed


def _masked(info: dict[str, Any]) -> dict[str, Any]:
    """With Gymnasium's masks: every environment says each of these."""
    num = len(next(iter(info.values())))
    info |= {f"_{name}": np.ones(num, bool) for name in list(info)}
    return info


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    choices = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
    for choice in choices:
        if mode in (choice, choice.value, choice.name):
            return choice
    raise ValueError(f"autoreset_mode={mode!r}: must be NEXT_STEP or SAME_STEP")


def _check_render_mode(render_mode: str | None) -> None:
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f'render_mode={render_mode!r}: must be None or "rgb_array"')


def _picture(env: Env, task: Task, states: list[Any], rewards: list[float]) -> np.ndarray:
    from taskbelief import render

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return render.picture(env, task, stacked, np.asarray(rewards))


# ---- making them ------------------------------------------------------------------


def make(
    env: str | Env,
    *,
    tasks: str = "train",
    history: bool = True,
    task: Task | None = None,
    render_mode: str | None = None,
    **settings: Any,
) -> TaskEnv:
    """Returns an environment for Gymnasium.

    Args:
      env: a name, with `settings`, or an environment.
      tasks: where tasks are drawn from at each reset: "train", "holdout" or "all" (p(w)).
      history: observations hold the previous action and reward and the episode's start.
      task: this task is played for ever instead.
      render_mode: None or "rgb_array".

    Raises:
      ValueError: an unknown name, setting or value.
    """
    made = registry.make(env, **settings)
    return TaskEnv(made, tasks=tasks, history=history, task=task, render_mode=render_mode)


def make_vec(
    env: str | Env,
    num_envs: int,
    *,
    tasks: str = "train",
    history: bool = True,
    task: Task | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **settings: Any,
) -> TaskVectorEnv:
    """Returns `num_envs` copies of an environment, each with tasks of its own.

    Args as for `make`, and:
      task: batched, [num_envs, ...].
      autoreset_mode: NEXT_STEP or SAME_STEP (see `TaskVectorEnv`).
    """
    return TaskVectorEnv(
        registry.make(env, **settings),
        num_envs,
        tasks=tasks,
        history=history,
        task=task,
        autoreset_mode=autoreset_mode,
        render_mode=render_mode,
    )


def by_id(env: str, **settings: Any) -> TaskEnv:
    """Returns the environment for `gymnasium.make`, whose time limit is that of the default
    settings: longer meta-episodes need `max_episode_steps` as well."""
    made = make(env, **settings)
    limit = _gymnasium_ids.STEPS[env]
    if made.env.spec.task_steps > limit:
        warnings.warn(
            f"a meta-episode has {made.env.spec.task_steps} steps, and gymnasium.make ends it after"
            f" {limit} unless it is told max_episode_steps={made.env.spec.task_steps}",
            stacklevel=2,
        )
    return made


def vec_by_id(env: str, num_envs: int, max_episode_steps: int, **settings: Any) -> TaskVectorEnv:
    """What `gymnasium.make_vec` calls; `max_episode_steps` is the settings' own."""
    del max_episode_steps
    return make_vec(env, num_envs, **settings)


_gymnasium_ids.register_envs()
