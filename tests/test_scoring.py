"""Tests of `taskbelief.score`: policies of every kind, on tasks with returns known by hand."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taskbelief
from taskbelief import evaluation, posterior, rollout, scoring, view
from taskbelief.card import calibrated
from taskbelief.types import Categories
from tests import toys
from tests.test_api import Known
from tests.test_problem import Place

BANDIT: Any = taskbelief.make("bandit", arms=3, horizon=8)
NUM = 40  # the same number of tasks everywhere, to share compiled programs
PAYING = np.tile([0, 1, 2, 2, 0], 8)  # the only arm with rewards; each pull has one
SURE = BANDIT.task_set("train", NUM)._replace(
    probabilities=jnp.asarray(np.eye(3)[PAYING], jnp.float32)
)
EARNED = 8 - PAYING  # by a policy that repeats a rewarded arm and otherwise takes the next


# ---- names ------------------------------------------------------------------------


def test_the_ends_of_the_scale_and_the_explorer():
    cards = {name: taskbelief.score(name, BANDIT, num=NUM) for name in scoring.ENDS}
    assert cards["random"].score == 0.0 and cards["expert"].score == 1.0
    tasks = BANDIT.task_set("holdout", NUM)
    means = {}
    for name in scoring.ENDS:
        policy = scoring.explorer.policies(BANDIT)[name]
        played = rollout.collect_scripted(BANDIT, tasks, jax.random.key(0), policy)
        means[name] = np.asarray(played.reward, np.float64).sum(axis=0).mean()
    wanted = (means["explorer"] - means["random"]) / (means["expert"] - means["random"])
    assert cards["explorer"].score == pytest.approx(wanted, rel=1e-6)
    for found in cards.values():
        assert found.standing["explorer"] == cards["explorer"].score
        assert set(found.standing) == {*scoring.SHOWN}
    assert cards["expert"].regret == pytest.approx(np.zeros(8))


def test_tasks_are_those_that_were_asked_for():
    cards = {
        name: taskbelief.score("random", toys.World(), name) for name in ("holdout", "train", "all")
    }
    np.testing.assert_array_equal(cards["holdout"].returns, 4000 * toys.HOLDOUT + 10)
    np.testing.assert_array_equal(cards["train"].returns, 4000 * toys.TRAIN + 10)
    assert len(cards["all"].returns) == 1000
    drawn = (cards["all"].returns - 10) / 4000
    assert set(drawn) == set(toys.TRAIN)  # the support of p(w)
    assert stats.chisquare(np.bincount(drawn.astype(int))).pvalue > 1e-3
    few = taskbelief.score("random", toys.World(), num=3)
    np.testing.assert_array_equal(few.returns, cards["holdout"].returns[:3])
    given = taskbelief.score("random", toys.World(), toys.Task(jnp.array([7.0, 9.0])))
    np.testing.assert_array_equal(given.returns, [28010.0, 36010.0])
    assert not given.normalised and given.score == 32010.0


def test_another_seed_is_other_chance_on_the_same_tasks():
    one, other = (taskbelief.score("expert", BANDIT, num=NUM, seed=seed) for seed in (0, 1))
    assert one.score == other.score == 1.0
    assert not np.array_equal(one.returns, other.returns)


# ---- policies from outside --------------------------------------------------------


def next_if_unpaid(obs):
    """Acts on the observation alone: [constant, previous arm, previous reward, start]."""
    arm, paid, begun = obs[:, 1:4].argmax(-1), obs[:, 4], obs[:, 5]
    assert isinstance(obs, np.ndarray) and obs.shape[1:] == (6,)
    return np.where((paid > 0.5) | (begun > 0.5), arm, (arm + 1) % 3)


def remembering(np):
    """Returns the same policy with a memory of the last arm, in place of the observed one."""

    def step(arm, obs, key):
        stay = (obs[:, -2] > 0.5) | (obs[:, -1] > 0.5)
        arm = np.where(stay, arm, (arm + 1) % 3)
        return arm, arm

    return (lambda num: np.zeros(num, np.int32)), step


class Model:
    """The same policy with the interface of Stable-Baselines3's models."""

    def __init__(self):
        self.begun = []

    def predict(self, obs, state=None, episode_start=None, deterministic=False):
        assert deterministic
        self.begun.append(np.array(episode_start))
        arm = np.zeros(len(obs), int) if state is None else state
        stay = (obs[:, -2] > 0.5) | episode_start
        arm = np.where(stay, arm, (arm + 1) % 3)
        return arm, arm


@pytest.mark.parametrize(
    ("policy", "compiled"),
    [
        (next_if_unpaid, True),
        (remembering(jnp), True),
        (remembering(np), False),
        (Model(), True),
    ],
    ids=["function", "compiled", "python", "predict"],
)
@pytest.mark.parametrize("batch", [17, 256])
def test_policies_of_every_kind_earn_what_they_do(policy, compiled, batch):
    found = taskbelief.score(policy, BANDIT, SURE, compiled=compiled, batch=batch)
    np.testing.assert_array_equal(found.returns, EARNED)
    assert found.standing["expert"] == 1.0 and found.reference_returns["expert"] == 8.0
    lost = (np.arange(8)[:, None] < 8 - EARNED).mean(axis=1)  # tasks without reward yet
    np.testing.assert_allclose(found.regret, np.cumsum(lost), rtol=1e-6)


def test_chance_is_the_same_whoever_calls():
    one = taskbelief.score(remembering(jnp), BANDIT, num=NUM)
    other = taskbelief.score(remembering(np), BANDIT, num=NUM, compiled=False)
    np.testing.assert_array_equal(one.rewards, other.rewards)
    assert 0 < one.returns.mean() < 8


def test_a_model_keeps_its_memory_over_the_episodes_of_a_task():
    seen = []

    class Counts:
        def predict(self, obs, state=None, episode_start=None, deterministic=False):
            state = np.zeros(len(obs)) if state is None else state + 1
            seen.append((obs, state, episode_start))
            return np.zeros((len(obs), 5)), state

    taskbelief.score(Counts(), toys.World(episode_steps=3, episodes=2), num=4)
    assert [state[0] for _, state, _ in seen] == list(range(6))
    assert [bool(np.all(begun)) for *_, begun in seen] == [True] + [False] * 5
    # the last entry of the observation marks the start of an episode
    assert [obs[0, -1] for obs, *_ in seen] == [1, 0, 0, 1, 0, 0]


def test_what_is_seen_at_each_step():
    """The vector contains the observation, the previous action and reward, and whether an episode
    starts; at the start of a task, previous action and reward are zeros."""
    env = toys.World(episode_steps=3, episodes=2)
    seen = []

    def act(obs):
        seen.append(obs)
        return np.full((len(obs), 5), len(seen) / 10, np.float32)

    taskbelief.score(act, env, num=1)
    assert [obs.shape for obs in seen] == [(1, view.size(env.spec))] * 6
    steps = np.concatenate(seen)
    np.testing.assert_array_equal(steps[:, 0], toys.HOLDOUT[0])  # the toy shows its task
    np.testing.assert_array_equal(steps[:, 1], [0, 1, 2, 0, 1, 2])  # and its clock
    np.testing.assert_allclose(steps[:, 6], [0, 0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(steps[:, 11], [0, 100001, 100002, 100003, 100001, 100002])
    np.testing.assert_array_equal(steps[:, 12], [1, 0, 0, 1, 0, 0])


def test_before_the_first_pull_no_arm_was_pulled():
    seen = []

    def act(obs):
        seen.append(obs)
        return np.zeros(len(obs), int)

    taskbelief.score(act, BANDIT, SURE)
    np.testing.assert_array_equal(seen[0], np.tile([1, 0, 0, 0, 0, 1], (NUM, 1)))
    np.testing.assert_array_equal(seen[1][0], [1, 1, 0, 0, 1, 0])  # the first task rewards arm 0


def test_without_history_there_is_the_observation_alone():
    shapes = []

    def act(obs):
        shapes.append(obs.shape)
        return np.zeros((len(obs), 5), np.float32)

    taskbelief.score(act, toys.World(), num=2, history=False)
    assert set(shapes) == {(2, 6)}


def test_continuous_actions_are_clipped():
    acted = []

    @dataclass(frozen=True)
    class Pays(toys.World):
        def step(self, key, state, action, task):
            obs, after, _, terminated = super().step(key, state, action, task)
            return obs, after, jnp.sum(action), terminated

    def act(obs):
        acted.append(obs[:, 6:11])
        return np.tile(np.array([2.0, -3.0, 0.5, 0.25, 0.0]), (len(obs), 1))

    found = taskbelief.score(act, Pays(), num=2)
    np.testing.assert_array_equal(found.returns, 4 * 0.75)
    np.testing.assert_array_equal(acted[1][0], [1.0, -1.0, 0.5, 0.25, 0.0])


# ---- beliefs ----------------------------------------------------------------------


def believing(belief, action=0):
    """Returns a policy of constant `action` and belief, `belief(num)` for a batch of `num`."""

    def step(carry, obs, key):
        return carry, jnp.full(len(obs), action, jnp.int32), belief(len(obs))

    return (lambda num: ()), step


def test_a_constant_belief_about_arms_against_closed_forms():
    """The belief is Beta(2, 3) for each arm, and only the first arm is pulled."""
    tasks = SURE._replace(probabilities=jnp.tile(jnp.array([0.5, 0.1, 0.8]), (NUM, 1)))
    shape = jnp.full((NUM, 3), 2.0), jnp.full((NUM, 3), 3.0)
    found = taskbelief.score(believing(lambda num: shape), BANDIT, tasks)
    wanted = -stats.beta.logpdf([0.5, 0.1, 0.8], 2, 3).sum()
    np.testing.assert_allclose(found.label_nll, wanted, rtol=1e-5)
    # KL(Beta(1, 1) || Beta(2, 3)) = -E[log pdf] = -log 12 + 1 + 2 for each arm, before any pull
    prior = 3 * (3 - np.log(12))
    error = 4 * np.sqrt(3 * 5 / (NUM * 8))  # of eight draws, whose variance is 5 for each arm
    np.testing.assert_allclose(found.kl[0].mean(), prior, atol=error)
    below = stats.beta.cdf([0.5, 0.1, 0.8], 2, 3)
    share = (np.abs(2 * below[:, None] - 1) <= np.arange(1, 10) / 10).mean(axis=0)
    np.testing.assert_allclose(found.calibration.found, share, atol=1e-6)
    np.testing.assert_allclose(found.calibration.said, np.arange(1, 10) / 10, rtol=1e-6)


GRID = 20
LINE = Known()
CELLS = Place(jnp.asarray((np.arange(GRID) + 0.5) / GRID * 2 - 1, jnp.float32))


@pytest.fixture(scope="module")
def uniform():
    """The score of a policy whose belief is always the prior and which moves to the right."""
    return taskbelief.score(believing(lambda num: jnp.full((num, GRID), 1 / GRID), 2), LINE, CELLS)


def test_masses_on_a_grid(uniform):
    np.testing.assert_allclose(uniform.label_nll, np.log(2.0), rtol=1e-5)  # a density of 1/2
    # along the true histories, in plain NumPy: log 20 - H(posterior)
    cells = np.asarray(CELLS.x)
    places = 0.3 * np.arange(1, 7)
    gaps = np.abs(cells[:, None, None] - places[:, None]) - np.abs(cells - places[:, None])
    log_likelihood = -np.abs(gaps) / 0.05  # [task, step, hypothesis]
    before = np.concatenate([np.zeros((GRID, 1, GRID)), np.cumsum(log_likelihood, 1)[:, :-1]], 1)
    exact = np.exp(before) / np.exp(before).sum(-1, keepdims=True)
    wanted = np.log(GRID) - stats.entropy(exact, axis=-1)
    np.testing.assert_allclose(uniform.kl, wanted.T, atol=2e-3)
    assert wanted[:, 1:].min() > 0.5 and np.abs(uniform.kl[0]).max() < 1e-5


def test_the_prior_is_calibrated_on_all_tasks(uniform):
    """The central tenth of 20 cells contains two of them, and so on."""
    np.testing.assert_allclose(uniform.calibration.found, np.arange(1, 10) / 10, atol=1e-6)
    assert uniform.calibration.error < 1e-6


def test_normal_beliefs_about_numbers():
    normal = jnp.full((GRID, 1), 0.2), jnp.full((GRID, 1), 0.5)
    found = taskbelief.score(believing(lambda num: normal), LINE, CELLS)
    cells = np.asarray(CELLS.x)
    wanted = np.tile(-stats.norm.logpdf(cells, 0.2, 0.5), (6, 1))
    np.testing.assert_allclose(found.label_nll, wanted, rtol=1e-4)
    density = stats.norm.pdf((np.arange(500) + 0.5) / 500 * 2 - 1, 0.2, 0.5)
    prior = stats.entropy(np.full(500, 1 / 500), density)  # KL on the grid of tasks
    np.testing.assert_allclose(found.kl[0], prior, rtol=1e-3)
    below = stats.norm.cdf(cells, 0.2, 0.5)
    share = (np.abs(2 * below[:, None] - 1) <= np.arange(1, 10) / 10).mean(axis=0)
    np.testing.assert_allclose(found.calibration.found, share, atol=1e-6)


def test_beliefs_about_categories():
    """Labels have two places with three classes. The first is 1, 2, 0 and 1, and the belief gives
    0.75 to class 0; the belief about the second is uniform."""

    @dataclass(frozen=True)
    class Choices(toys.World):
        @property
        def spec(self):
            return replace(super().spec, task=Categories(2, 3), goal=Categories(2, 3))

        def describe(self, task):
            return (task.number.astype(int) + jnp.arange(2)) % 3

    def step(carry, obs, key):
        first = jnp.tile(jnp.array([0.75, 0.125, 0.125]), (len(obs), 1))
        return carry, jnp.zeros((len(obs), 5)), jnp.stack([first, jnp.full_like(first, 1 / 3)], 1)

    found = taskbelief.score(((lambda num: ()), step), Choices(), num=4)
    wanted = -np.log(np.array([0.125, 0.125, 0.75, 0.125]) / 3)
    np.testing.assert_allclose(found.label_nll, np.tile(wanted, (4, 1)), rtol=1e-5)
    assert found.kl is None  # there is no exact posterior
    said, share, count = found.calibration
    np.testing.assert_array_equal(count, np.array([0, 2, 0, 3, 0, 0, 0, 1, 0, 0]) * 16)
    np.testing.assert_allclose(said[[1, 3, 7]], [0.125, 1 / 3, 0.75], rtol=1e-6)
    np.testing.assert_allclose(share[[1, 3, 7]], [3 / 8, 1 / 3, 1 / 4], rtol=1e-6)


def test_the_exact_posterior_is_its_own_belief():
    exact = posterior.make(BANDIT)

    def init(num):
        return jax.vmap(lambda _: exact.init())(jnp.arange(num)), jnp.zeros(num, bool)

    def step(carry, obs, key):
        belief, begun = carry
        seen, arm, reward = obs[:, :1], obs[:, 1:4].argmax(-1), obs[:, 4]
        after = jax.vmap(exact.update)(belief, seen, arm, reward, seen)
        belief = jax.tree.map(lambda a, b: jnp.where(begun[:, None], a, b), after, belief)
        arm = jnp.argmax(jax.vmap(exact.mean)(belief), axis=-1)
        return (belief, jnp.ones_like(begun)), arm, belief

    found = taskbelief.score((init, step), BANDIT, num=NUM)
    np.testing.assert_allclose(found.kl, 0.0, atol=1e-4)
    # the same policy as the explorer, with other random numbers
    assert abs(found.mean_return - found.reference_returns["explorer"]) < 5 * 2 / np.sqrt(NUM)
    assert found.label_nll[-1].mean() < found.label_nll[0].mean()


def test_calibration_of_an_agent_of_ours():
    """Along the meta-episodes that it plays; the toy agent returns the mass below the clock."""
    agent = toys.agent()._replace(
        belief_mean=lambda params, features: features.belief,
        belief_cdf=lambda params, features, label: label.h / 4,  # 0, 1/4, 1/2 and 3/4
    )
    calibrate = evaluation.calibration(toys.World(), agent, toys.learner(1, 1), toys.clock())
    params = toys.learner(1, 1).init(jax.random.key(0)).params
    found = calibrated(calibrate(params, toys.World().task_set("train"), jax.random.key(0)))
    np.testing.assert_array_equal(found.number, np.full(9, 4 * 6))
    np.testing.assert_allclose(found.found, [0.25] * 4 + [0.75] * 5)
    assert evaluation.calibration(toys.World(), toys.agent(), None, toys.clock()) is None


# ---- what makes no sense ----------------------------------------------------------


def constant(*returned):
    return (lambda num: jnp.zeros(num)), lambda carry, obs, key: tuple(
        each(carry, obs) if callable(each) else each for each in returned
    )


def zeros(carry, obs):
    return jnp.zeros(len(obs), jnp.int32)


def kept(carry, obs):
    return carry


@pytest.mark.parametrize(
    ("policy", "more", "said"),
    [
        ("experts", {}, "no policy 'experts': bandit has random, expert, explorer, thompson"),
        (3, {}, "policy: must be a name, .init, step., .* not int"),
        ("random", {"env": None}, "env: must be given"),
        ("random", {"env": "bandits"}, "did you mean 'bandit'"),
        ("random", {"env": 3}, "env: must be a name or an environment, not int"),
        ("random", {"env": "bandit", "armes": 3}, "bandit has no setting 'armes'"),
        ("random", {"tasks": "test"}, "tasks 'test': must be holdout, train, all, or tasks"),
        ("random", {"tasks": jnp.zeros((3, 3))}, "tasks: must be .* batch of bandit's tasks"),
        ("random", {"tasks": BANDIT.sample_task(jax.random.key(0))}, "tasks: must be .* batch"),
        ("random", {"num": 0}, "num 0: must be a whole number, at least 1"),
        ("random", {"batch": 2.0}, "batch 2.0: must be a whole number, at least 1"),
        (constant(kept), {}, "must return .carry, actions. or .* not 1 values"),
        (constant(lambda m, o: m[:1], zeros), {}, "the carry has another form than init's"),
        (remembering(np), {}, "JAX cannot compile it; compiled=False calls it from Python"),
        (constant(kept, lambda m, o: jnp.zeros((len(o), 3))), {}, "actions: must be whole numbers"),
        (constant(kept, lambda m, o: jnp.zeros(len(o))), {}, "whole numbers .* not float32"),
        (lambda obs: np.full(len(obs), 3), {}, "actions: must be 0 ... 2, and one was 3"),
        (lambda obs: np.full(len(obs), -1), {}, "actions: must be 0 ... 2, and one was -1"),
        (constant(kept, zeros, 0.5), {}, "belief: must be .a, b. of .2, 3. each, not"),
        (
            constant(kept, zeros, lambda m, o: (jnp.zeros((len(o), 3)),) * 2),
            {},
            "belief: standard deviations, a and b must be above 0",
        ),
        (
            constant(kept, zeros, lambda m, o: jnp.ones((len(o), 5))),
            {"env": LINE},
            "belief: probabilities must not be negative, and must sum to 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(policy, more, said):
    arguments = {"env": BANDIT, "num": 2} | more
    with pytest.raises(ValueError, match=said):
        taskbelief.score(policy, **arguments)


def test_actions_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="actions: one was not a number"):
        taskbelief.score(lambda obs: np.full((len(obs), 5), np.nan), toys.World(), num=2)
