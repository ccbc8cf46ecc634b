"""Tests the Stable-Baselines3 adapter if SB3 is installed; experiments/clients runs its agents."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
from stable_baselines3.common.vec_env import VecMonitor

from taskbelief.adapters import sb3
from tests.adapters.tally import Number, Tally


def test_the_steps_of_a_task_by_hand():
    env = VecMonitor(sb3.make_vec(Tally(), 2, task=Number(np.float32([2, 3]))))
    assert env.reset().tolist() == [[0, 0, 0, 1]] * 2
    rows = [env.step(np.array([[0.5], [1.0]], np.float32)) for _ in range(8)]
    assert [row[1].tolist()[0] for row in rows] == [20.5, 21.0, 21.5, 22.0] * 2
    assert [row[2].tolist() for row in rows] == [[i == 7] * 2 for i in range(8)]
    last = rows[7][3]
    assert last[0]["terminal_observation"].tolist() == [2, 0.5, 22, 0]
    assert last[0]["TimeLimit.truncated"] and last[0]["task_start"] and last[0]["episode_end"]
    assert [info["episode"]["r"] for info in last] == [170, 260]
    assert rows[7][0].tolist() == [[0, 0, 0, 1]] * 2
    assert [row[3][0]["episode_end"] for row in rows] == [i in (3, 7) for i in range(8)]


def test_seeds():
    env = sb3.make_vec("bandit", 3, arms=2)
    found = []
    for seed in (1, 1, 2):
        env.seed(seed)
        env.reset()
        found.append(np.asarray(env.envs.tasks.probabilities))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
    assert len(np.unique(found[0], axis=0)) == 3
