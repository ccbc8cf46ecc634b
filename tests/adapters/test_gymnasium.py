import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import taskbelief

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium import error
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from taskbelief.adapters import _gymnasium_ids
from taskbelief.adapters import gymnasium as adapter
from tests.adapters.tally import Number, Tally

HALF = np.array([0.5], np.float32)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [n for n in taskbelief.environments() if n != "cheetah_velocity"])
def test_gymnasium_finds_nothing_wrong(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "(?s).*(render|not within|unwrapped)")
        check_env(adapter.make(name))


# ---- one environment --------------------------------------------------------------


def test_the_steps_of_a_task_by_hand():
    env = adapter.make(Tally(), task=Number(np.float32(2)))
    obs, info = env.reset(seed=0)
    assert obs.tolist() == [0, 0, 0, 1] and info == {"episode_end": False, "task_start": True}
    rows = [env.step(HALF) for _ in range(8)]
    assert [row[1] for row in rows] == [20.5, 21.0, 21.5, 22.0] * 2
    assert [row[2:4] for row in rows] == [(False, False)] * 7 + [(False, True)]
    assert [row[4]["episode_end"] for row in rows] == [i in (3, 7) for i in range(8)]
    assert not any(row[4]["task_start"] for row in rows)
    assert [row[4]["reached"].tolist() for row in rows] == [[0.5], [1], [1.5], [2]] * 2
    assert rows[3][0].tolist() == [0, 0.5, 22.0, 1] and rows[7][0].tolist() == [2, 0.5, 22.0, 0]
    assert rows[0][0].dtype == np.float32 and rows[0][0].flags.writeable and obs.flags.writeable
    with pytest.raises(error.ResetNeeded):
        env.step(HALF)


def test_each_reset_draws_a_task_and_a_seed_draws_the_same():
    env = adapter.make(Tally(), tasks="holdout")
    numbers = []
    for i in range(20):
        env.reset(seed=7 if i in (0, 10) else None)
        numbers.append(float(env.task.number))
    assert set(numbers) == {4, 5} and numbers[:10] == numbers[10:]


def test_one_task_for_ever():
    env = adapter.make(Tally())
    for given in ({"task": Number(np.float32(7))}, None, None):
        env.reset(options=given)
        assert env.task.number == 7 and env.step(HALF)[1] == 70.5
    env.reset(options={"task": None})
    assert env.task.number in (1, 2, 3)
    with pytest.raises(ValueError, match="unknown options 'taks': only 'task'"):
        env.reset(options={"taks": 1})


def test_reset_comes_first():
    with pytest.raises(error.ResetNeeded):
        adapter.make(Tally()).step(HALF)
    with pytest.raises(error.ResetNeeded):
        adapter.make_vec(Tally(), 2).step(np.zeros((2, 1), np.float32))
    with pytest.raises(error.ResetNeeded):
        adapter.make("numpad", render_mode="rgb_array").render()


@pytest.mark.parametrize(
    ("env", "action", "said"),
    [
        (Tally(), [np.nan], "not a number"),
        (Tally(), [0.5, 0.5], "must be \\(1,\\)"),
        (Tally(), 0.5, "must be \\(1,\\)"),
        (Tally(discrete=True), 3, "action 3: must be between 0 and 2"),
        (Tally(discrete=True), -1, "action -1: must be between 0 and 2"),
        (Tally(discrete=True), 1.0, "must be a whole number"),
        (Tally(discrete=True), [1], "must be a whole number, of shape \\(\\)"),
    ],
)
def test_actions_that_there_are_not(env, action, said):
    """They are refused, and the environment's state stays as it was."""
    one = adapter.make(env, task=Number(np.float32(2)))
    one.reset(seed=0)
    with pytest.raises(error.InvalidAction, match=said):
        one.step(action)
    legal = 1 if env.discrete else HALF
    assert one.step(legal)[1] == (21 if env.discrete else 20.5)
    several = adapter.make_vec(env, 2)
    several.reset(seed=0)
    with pytest.raises(error.InvalidAction):
        several.step([legal, action] if np.ndim(action) == np.ndim(legal) else action)


def test_whole_numbers_of_any_kind_are_arms():
    env = adapter.make(Tally(discrete=True), task=Number(np.float32(2)))
    env.reset()
    found = [env.step(a)[1] for a in (1, np.int64(1), np.int32(0), np.array(2), np.uint8(1))]
    assert found == [21, 22, 22, 24, 21]


def test_spaces():
    env = adapter.make(Tally(discrete=True))
    np.testing.assert_allclose(env.observation_space.low, [-4, 0, 0, 0, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(env.observation_space.high, [8, 1, 1, 1, 110, 1], rtol=1e-5)
    assert env.action_space == gymnasium.spaces.Discrete(3)
    plain = adapter.make(Tally(), history=False)
    assert plain.observation_space.shape == (1,) and plain.reset(seed=0)[0].tolist() == [0]
    assert plain.action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32)


def test_a_second_instance_compiles_nothing():
    def used():
        env = adapter.make("bandit", arms=7)
        env.reset(seed=0)
        env.step(3)
        return env

    first = used()
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    second = used()
    assert not compiled and first._programs is second._programs
    adapter.make("bandit", arms=8).reset(seed=0)
    assert compiled  # other settings do compile, and the listener records it


# ---- a batch ----------------------------------------------------------------------


def vector(mode, **options):
    envs = adapter.make_vec(Tally(), 2, autoreset_mode=mode, **options)
    return envs, envs.reset(seed=0)


def test_same_step():
    envs, (obs, info) = vector("SAME_STEP", task=Number(np.float32([2, 3])))
    assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is AutoresetMode.SAME_STEP
    assert obs.tolist() == [[0, 0, 0, 1]] * 2 and info["task_start"].all()
    rows = [envs.step([[0.5], [1.0]]) for _ in range(9)]
    rewards = [[20.5, 31.0], [21.0, 32.0], [21.5, 33.0], [22.0, 34.0]]
    assert [row[1].tolist() for row in rows] == [*rewards, *rewards, rewards[0]]
    assert [row[3].tolist() for row in rows] == [[i == 7] * 2 for i in range(9)]
    assert not np.any([row[2] for row in rows])
    infos = [row[4] for row in rows]
    assert [info["task_start"].tolist() for info in infos] == [[i == 7] * 2 for i in range(9)]
    assert [info["episode_end"][0] for info in infos] == [i in (3, 7) for i in range(9)]
    assert infos[0]["_episode_end"].all() and infos[2]["reached"].tolist() == [[1.5], [3.0]]
    assert ["final_obs" in info for info in infos] == [i == 7 for i in range(9)]
    assert [f.tolist() for f in infos[7]["final_obs"]] == [[2, 0.5, 22, 0], [4, 1, 34, 0]]
    assert infos[7]["_final_obs"].all() and infos[7]["final_info"]["episode_end"].all()
    assert rows[7][0].tolist() == [[0, 0, 0, 1]] * 2 and rows[8][0].tolist()[0] == [
        0.5,
        0.5,
        20.5,
        0,
    ]
    assert all(row[i].flags.writeable for row in rows for i in range(4))


def test_next_step():
    envs, _ = vector(AutoresetMode.NEXT_STEP, task=Number(np.float32([2, 3])))
    assert adapter.make_vec(Tally(), 2).autoreset_mode is AutoresetMode.NEXT_STEP
    rows = [envs.step([[0.5], [1.0]]) for _ in range(10)]
    assert [row[1].tolist()[0] for row in rows[6:]] == [21.5, 22, 0, 20.5]
    assert [row[3].tolist()[0] for row in rows[6:]] == [False, True, False, False]
    assert rows[7][0].tolist() == [[2, 0.5, 22, 0], [4, 1, 34, 0]]
    assert rows[8][0].tolist() == [[0, 0, 0, 1]] * 2
    assert [row[4]["task_start"].tolist()[0] for row in rows[6:]] == [False, False, True, False]
    assert [row[4]["episode_end"].tolist()[0] for row in rows[6:]] == [False, True, False, False]
    assert not any("final_obs" in row[4] for row in rows)


def test_it_agrees_with_gymnasiums_own_vectorisation():
    """`SyncVectorEnv` steps single environments with the same tasks."""
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        tasks = [Number(np.float32(n)) for n in (2, 3)]
        theirs = SyncVectorEnv(
            [lambda task=task: adapter.make(Tally(edge=2.0), task=task) for task in tasks],
            autoreset_mode=mode,
        )
        ours = adapter.make_vec(
            Tally(edge=2.0), 2, task=Number(np.float32([2, 3])), autoreset_mode=mode
        )
        np.testing.assert_array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
        random = np.random.default_rng(0)
        for _ in range(20):
            action = random.uniform(-1, 1, (2, 1)).astype(np.float32)
            found, expected = ours.step(action), theirs.step(action)
            for a, b in zip(found[:4], expected[:4], strict=True):
                np.testing.assert_allclose(a, b)
            assert ("final_obs" in found[4]) == ("final_obs" in expected[4])
            if "final_obs" in found[4]:
                np.testing.assert_allclose(
                    np.stack(found[4]["final_obs"]), np.stack(expected[4]["final_obs"])
                )


def test_tasks_of_a_batch_are_drawn_apart_and_again():
    envs = adapter.make_vec(Tally(), 64, autoreset_mode="SAME_STEP")
    envs.reset(seed=0)
    seen = [np.asarray(envs.tasks.number)]
    for _ in range(3):
        for _ in range(8):
            envs.step(np.zeros((64, 1), np.float32))
        seen.append(np.asarray(envs.tasks.number))
    assert all(set(numbers) == {1, 2, 3} for numbers in seen)
    assert all(0.4 < np.mean(a != b) < 0.95 for a, b in itertools.pairwise(seen))
    envs.reset(seed=0)
    np.testing.assert_array_equal(envs.tasks.number, seen[0])
    envs.reset()
    assert np.any(np.asarray(envs.tasks.number) != seen[0])
    # one seed per environment
    envs = adapter.make_vec("bandit", 3, arms=2)
    envs.reset(seed=[5, 6, 5])
    p = np.asarray(envs.tasks.probabilities)
    assert (p[0] == p[2]).all() and (p[0] != p[1]).all()
    with pytest.raises(ValueError, match="2 seeds for 3 environments"):
        envs.reset(seed=[1, 2])


def test_bad_batches():
    for num in (0, 2.0, True):
        with pytest.raises(ValueError, match="num_envs"):
            adapter.make_vec(Tally(), num)
    with pytest.raises(ValueError, match="NEXT_STEP or SAME_STEP"):
        adapter.make_vec(Tally(), 2, autoreset_mode="Disabled")
    envs = adapter.make_vec(Tally(), 2)
    with pytest.raises(ValueError, match="unknown options 'mask'"):
        envs.reset(options={"mask": 1})
    envs.close()
    assert envs.closed


# ---- pictures ---------------------------------------------------------------------


def test_pictures():
    env = adapter.make("numpad", render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    assert len(env._states) == 4
    frame = env.render()
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    envs = adapter.make_vec("numpad", 2, render_mode="rgb_array")
    envs.reset(options={"task": jax.tree.map(lambda leaf: np.stack([leaf] * 2), env.task)})
    assert [len(states) for states, _ in envs._frames] == [1, 1]
    frames = envs.render()
    assert len(frames) == 2 and frames[0].shape == frame.shape
    with pytest.raises(ValueError, match="render_mode"):
        adapter.make("numpad", render_mode="human")


def test_a_picture_shows_the_way_since_the_episode_began():
    env = adapter.make("sparse_navigation", episode_steps=3, render_mode="rgb_array")
    env.reset(seed=0)
    ways = []
    for _ in range(5):
        env.step(np.ones(2, np.float32))
        ways.append([round(float(state.position[0]), 1) for state in env._states])
    assert ways == [[0, 0.1], [0, 0.1, 0.2], [0.0], [0, 0.1], [0, 0.1, 0.2]]


# ---- by id ------------------------------------------------------------------------


def test_ids():
    assert set(_gymnasium_ids.STEPS) == set(taskbelief.environments())
    for name, steps in _gymnasium_ids.STEPS.items():
        assert taskbelief.make(name).spec.task_steps == steps
        assert gymnasium.spec(_gymnasium_ids.name(name)).max_episode_steps == steps
    env = gymnasium.make("taskbelief/SparseNavigation-v0", episodes=2, tasks="holdout")
    assert env.unwrapped.env == taskbelief.make("sparse_navigation", episodes=2)
    assert env.unwrapped.view.tasks == "holdout"
    envs = gymnasium.make_vec("taskbelief/Bandit-v0", num_envs=3, arms=4)
    assert isinstance(envs, adapter.TaskVectorEnv) and envs.single_action_space.n == 4
    assert envs.num_envs == 3
    with pytest.warns(UserWarning, match="max_episode_steps=200"):
        gymnasium.make("taskbelief/Bandit-v0", horizon=200)


def test_the_package_tells_gymnasium_its_ids():
    """The entry point of the installed package registers the ids and does not import JAX."""
    text = (ROOT / "pyproject.toml").read_text()
    line = '[project.entry-points."gymnasium.envs"]\n__root__ = "'
    module, _, function = text.partition(line)[2].partition('"')[0].partition(":")
    code = (
        f"import sys, gymnasium\nfrom {module} import {function} as register\nregister()\n"
        "assert 'taskbelief/Numpad-v0' in gymnasium.registry\n"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
