"""Contract tests of all environments."""

import functools
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import rollout
from taskbelief.types import Categories, Continuous, Probabilities, Reals

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "numpad jump": ("numpad", {"jump": True}),
    "numpad cues": ("numpad", {"cues": "next", "cue_share": 0.5, "mercy_share": 0.5}),
    "numpad small": ("numpad", {"size": 2, "length": 2, "neighbours": 4, "train_tasks": 4}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {}) for name in taskbelief.environments()
} | VARIANTS
STEPS = 10_000
STEPS_OF_PHYSICS = 2_000  # of the cheetah, whose steps are slow


@functools.cache
def make(case) -> Any:
    name, settings = CASES[case]
    return taskbelief.make(name, **settings)


def random_action(env, key):
    if isinstance(env.spec.action, Continuous):
        return jax.random.uniform(key, (env.spec.action.num,), minval=-1, maxval=1)
    return jax.random.randint(key, (), 0, env.spec.action.num)


def steps(case):
    return STEPS_OF_PHYSICS if case == "cheetah_velocity" else STEPS


@functools.cache
def long_walk(case):
    """Plays `steps(case)` random steps; returns task, first obs, first state, last state, (obs,
    action, reward, end)."""
    env = make(case)

    @jax.jit
    def walk(key):
        task_key, reset_key, walk_key = jax.random.split(key, 3)
        task = env.sample_task(task_key)
        first, state = env.reset(reset_key, task)

        def step(state, key):
            act_key, step_key = jax.random.split(key)
            action = random_action(env, act_key)
            obs, after, reward, end = env.step(step_key, state, action, task)
            return after, (obs, action, reward, end)

        last, records = jax.lax.scan(step, state, jax.random.split(walk_key, steps(case)))
        return task, first, state, last, records

    return walk(jax.random.key(0))


every_case = pytest.mark.parametrize("case", CASES)


# the cheetah compiles slowly, and `long_walk` covers it
@pytest.mark.parametrize("case", [case for case in CASES if case != "cheetah_velocity"])
def test_what_authors_of_environments_can_check(case):
    taskbelief.check_env(make(case), steps=20)


@every_case
def test_scan_of_many_steps_is_finite_and_as_the_spec_says(case):
    env = make(case)
    _, first, _, _, (obs, action, reward, end) = long_walk(case)
    spec = env.spec
    assert first.shape == (spec.obs_dim,) and first.dtype == jnp.float32
    assert obs.shape == (steps(case), spec.obs_dim) and obs.dtype == jnp.float32
    assert reward.shape == (steps(case),) and reward.dtype == jnp.float32
    assert end.shape == (steps(case),) and end.dtype == jnp.bool_
    assert make(case).spec.terminates or not jnp.any(end)
    assert action.dtype == (jnp.float32 if isinstance(spec.action, Continuous) else jnp.int32)
    for values in (first, obs, reward):
        assert np.all(np.isfinite(values))
    low, high = spec.reward_range
    assert np.min(reward) >= low and np.max(reward) <= high


@every_case
def test_description_is_in_the_family_of_the_spec(case):
    env = make(case)
    h = np.asarray(jax.vmap(env.describe)(env.task_set("holdout")))
    family = env.spec.task
    if isinstance(family, Categories):
        assert h.shape[1:] == (family.places,) and h.dtype == np.int32
        assert h.min() >= 0 and h.max() < family.classes
        assert len(family.coordinates) in (0, family.classes)
    else:
        assert h.shape[1:] == (family.num,) and h.dtype == np.float32
    if isinstance(family, Probabilities):
        assert h.min() > 0 and h.max() < 1
    if isinstance(family, Reals):
        standard = (h - np.asarray(family.centre)) / np.asarray(family.scale)
        assert np.all(np.abs(standard.mean(0)) < 0.15)
        assert np.all(np.abs(standard.std(0) - 1) < 0.15)
    goal = jax.eval_shape(env.goal, long_walk(case)[1], long_walk(case)[0])
    num = env.spec.goal.places if isinstance(env.spec.goal, Categories) else env.spec.goal.num
    assert goal.shape == (num,)


@every_case
def test_jit_equals_no_jit_and_vmap_equals_loop(case):
    env = make(case)
    task, _, state, last, _ = long_walk(case)
    key = jax.random.key(1)
    action = random_action(env, jax.random.key(2))
    states = jax.tree.map(lambda a, b: jnp.stack([a, b]), state, last)
    both_keys = jax.random.split(key)
    step = jax.jit(env.step)
    batched = jax.jit(jax.vmap(env.step, in_axes=(0, 0, None, None)))

    looped = [
        step(both_keys[i], jax.tree.map(lambda leaf, i=i: leaf[i], states), action, task)
        for i in range(2)
    ]
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped)
    close(batched(both_keys, states, action, task), looped)
    if case != "cheetah_velocity":  # outside jit its physics compiles once more
        close(env.step(both_keys[0], state, action, task), jax.tree.map(lambda x: x[0], looped))


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, other)


@every_case
def test_task_sets_are_disjoint_and_of_the_promised_size(case):
    env = make(case)
    train, holdout = env.task_set("train"), env.task_set("holdout")
    labels = [np.asarray(jax.vmap(env.describe)(tasks)) for tasks in (train, holdout)]
    assert len(labels[0]) == env.train_tasks
    if isinstance(env.spec.task, Categories):
        everything, _ = env.hypotheses(0)
        assert len(labels[0]) + len(labels[1]) == rollout.batch_size(everything)
    else:
        assert len(labels[1]) == 1000
    sets = [{tuple(row) for row in rows.tolist()} for rows in labels]
    assert not sets[0] & sets[1]
    assert [len(s) for s in sets] == [len(rows) for rows in labels]
    np.testing.assert_array_equal(jax.vmap(env.describe)(env.task_set("train", 2)), labels[0][:2])
    with pytest.raises(ValueError, match="split"):
        env.task_set("test")
    with pytest.raises(ValueError, match="num"):
        env.task_set("train", 0)


def test_task_sets_are_the_same_in_every_process():
    script = (
        "import taskbelief, jax, numpy as np\n"
        "for name in taskbelief.environments():\n"
        "    env = taskbelief.make(name)\n"
        "    for split in ('train', 'holdout'):\n"
        "        h = np.asarray(jax.vmap(env.describe)(env.task_set(split)), np.float64)\n"
        "        print(name, split, np.round(h.sum(), 2), np.round(h[7].sum(), 4))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    for line in printed.splitlines():
        name, split, total, seventh = line.split()
        env = taskbelief.make(name)
        h = np.asarray(jax.vmap(env.describe)(env.task_set(split)), np.float64)
        assert abs(h.sum() - float(total)) < 0.02 and abs(h[7].sum() - float(seventh)) < 2e-4
    assert len(printed.splitlines()) == 2 * len(taskbelief.environments())


@pytest.mark.parametrize("case", [case for case in CASES if case != "cheetah_velocity"])
def test_observations_do_not_tell_the_task(case):
    """Two tasks, same keys, same actions: the same observations until the first reward."""
    env = make(case).at_test()

    def play(key, task):
        first, state = env.reset(key, task)

        def step(state, key):
            action = random_action(env, key)
            obs, state, reward, _ = env.step(key, state, action, task)
            return state, (obs, reward)

        _, (obs, reward) = jax.lax.scan(step, state, jax.random.split(key, 100))
        return jnp.concatenate([first[None], obs]), reward

    histories = jax.vmap(jax.vmap(play, in_axes=(None, 0)), in_axes=(0, None))
    keys = jax.random.split(jax.random.key(3), 20)
    obs, reward = (np.asarray(x) for x in jax.jit(histories)(keys, env.task_set("holdout", 2)))
    unpaid = np.cumsum(np.any(reward > 0, axis=1), axis=1) == 0  # [20, 100]
    if case in ("bandit", "noisy_target"):
        unpaid[:] = True  # rewards are random, and nothing else depends on the task
    assert unpaid.sum() >= 20
    np.testing.assert_array_equal(obs[:, 0, 0], obs[:, 1, 0])
    np.testing.assert_array_equal(obs[:, 0, 1:][unpaid], obs[:, 1, 1:][unpaid])


def test_cheetah_observations_do_not_tell_the_task():
    """The body does not depend on the target speed, even after a reward."""
    env = make("cheetah_velocity")
    _, _, state, _, _ = long_walk("cheetah_velocity")
    step = jax.jit(env.step)
    slow, fast = (jax.tree.map(lambda leaf, i=i: leaf[i], env.task_set("train")) for i in (0, 1))
    action = random_action(env, jax.random.key(0))
    np.testing.assert_array_equal(
        step(jax.random.key(0), state, action, slow)[0],
        step(jax.random.key(0), state, action, fast)[0],
    )


@every_case
def test_environment_is_a_value(case):
    """Environments are hashable and equal by their settings, so static under jit."""
    name, settings = CASES[case]
    env = taskbelief.make(name, **settings)
    assert env == make(case) and hash(env) == hash(make(case))
    assert env.at_test().spec.obs_dim == env.spec.obs_dim
    assert env.spec.task_steps == env.spec.episode_steps * env.spec.episodes_per_task


@every_case
def test_hypotheses_have_a_normalised_prior(case):
    env = make(case)
    tasks, log_prior = env.hypotheses(50)
    assert rollout.batch_size(tasks) == len(log_prior)
    np.testing.assert_allclose(np.exp(log_prior).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case != "cheetah_velocity"])
def test_expert_beats_random_and_keeps_to_the_action_space(case):
    env = make(case).at_test()
    tasks = env.task_set("train", 4)
    played = {
        name: jax.jit(
            lambda policy=policy: rollout.collect_scripted(env, tasks, jax.random.key(0), policy)
        )()
        for name, policy in {
            "random": rollout.uniform_random(env.spec),
            "expert": rollout.expert(env),
        }.items()
    }
    action = played["expert"].action
    if isinstance(env.spec.action, Continuous):
        assert np.abs(action).max() <= 1 + 1e-6
    else:
        assert action.min() >= 0 and action.max() < env.spec.action.num
    assert played["expert"].reward.sum() > 1.2 * played["random"].reward.sum()
