"""Stable-Baselines3: `make_vec("bandit", num_envs=64, arms=3) -> VecEnv`.

The batch of `taskbelief.adapters.gymnasium`, stepped in one compiled program, as
Stable-Baselines3, sb3-contrib and sbx take it. An episode is a whole meta-episode of a new task;
what observations hold and where tasks come from is written there. Episode returns are logged
where it is wrapped: `stable_baselines3.common.vec_env.VecMonitor(make_vec(...))`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from taskbelief.adapters import gymnasium as adapter
from taskbelief.types import Env, Task


class TaskVecEnv(VecEnv):
    """A batch of tasks side by side."""

    def __init__(self, envs: adapter.TaskVectorEnv) -> None:
        self.envs = envs
        self.env = envs.env
        self.render_mode = envs.render_mode
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        seed = None if self._seeds[0] is None else list(self._seeds)
        options = self._options[0] or None
        obs, info = self.envs.reset(seed=seed, options=options)  # type: ignore[arg-type]
        self.reset_infos = self._infos(info)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, info = self.envs.step(self._actions)
        infos = self._infos(info)
        for i in np.flatnonzero(truncated):
            infos[i]["terminal_observation"] = info["final_obs"][i]
            infos[i]["TimeLimit.truncated"] = True
        return obs, reward, terminated | truncated, infos

    def _infos(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        names = [name for name in ("episode_end", "task_start", "reached") if name in info]
        columns = [info[name] if name == "reached" else info[name].tolist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.envs.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name}: members of a compiled batch have no own attributes")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        del args, indices, kwargs
        raise AttributeError(f"{method_name}: members of a compiled batch have no own methods")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        del wrapper_class
        return [False for _ in self._get_indices(indices)]


def make_vec(
    env: str | Env,
    num_envs: int,
    *,
    tasks: str = "train",
    history: bool = True,
    task: Task | None = None,
    render_mode: str | None = None,
    **settings: Any,
) -> TaskVecEnv:
    """Returns `num_envs` copies of an environment; see `gymnasium.make_vec`.

    Raises:
      ValueError: an unknown name, setting or value.
    """
    envs = adapter.make_vec(
        env,
        num_envs,
        tasks=tasks,
        history=history,
        task=task,
        autoreset_mode=AutoresetMode.SAME_STEP,
        render_mode=render_mode,
        **settings,
    )
    return TaskVecEnv(envs)
