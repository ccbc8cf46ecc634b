"""Tests of evaluation: its meta-episodes, and scores from returns."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import evaluation
from taskbelief.evaluation import References
from tests import toys

WORLD = toys.World(episode_steps=3, episodes=2)


def evaluated(num, teach=None, **settings):
    learner = toys.learner(1, 1)
    play = evaluation.make(WORLD, toys.agent(), learner, teach or toys.clock(), **settings)
    params = learner.init(jax.random.key(0)).params
    return play(params, WORLD.task_set("holdout", num), jax.random.key(0))


@pytest.mark.parametrize("batch", [2, 3, 5, 256])
def test_each_task_counts_once_and_in_its_place(batch):
    """Also where the batch does not divide the number of tasks."""
    found = evaluated(5, batch=batch)
    # six rewards of 1000 times the task, plus 1 + 2 + 3 + 1 + 2 + 3
    np.testing.assert_array_equal(found.returns, 6000 * toys.HOLDOUT[:5] + 12)
    # the quarters of six steps: two, two, one and one
    tasks = 1000 * toys.HOLDOUT[:5]
    quarters = [2 * tasks + 3, 2 * tasks + 4, tasks + 2, tasks + 3]
    np.testing.assert_array_equal(found.quarters, quarters)
    assert found.label_nll.shape == (6, 5)
    clock = np.array([1, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal(found.rewards, clock[:, None] + 1000 * toys.HOLDOUT[:5])


def test_the_agent_takes_the_mode():
    """Without a key nothing is drawn: `act` receives one for the sampled returns only, and `unroll`
    never does."""
    acted = []

    def act(params, carry, inputs, key):
        acted.append(key)
        return carry, jnp.zeros((inputs.obs.shape[1], 5)), jnp.zeros(inputs.obs.shape[1])

    learner = toys.learner(1, 1)._replace(act=act)
    unrolled = []
    agent = toys.agent()

    def unroll(params, carry, inputs, key):
        unrolled.append(key)
        return agent.unroll(params, carry, inputs, key)

    play = evaluation.make(WORLD, agent._replace(unroll=unroll), learner, toys.clock())
    play({"agent": {}}, WORLD.task_set("train"), jax.random.key(0))
    assert unrolled == [None]
    first, second = acted  # traced once each: the mode, then draws
    assert first is None and second is not None


def test_returns_are_of_the_mode_and_sampled_ones_of_draws():
    """The reward is the action: 2 for the mode, 3 for a draw, at each of four steps."""

    @dataclass(frozen=True)
    class Paid(toys.World):
        def step(self, key, state, action, task):
            obs, after, _, terminated = super().step(key, state, action, task)
            return obs, after, action[0], terminated

    def act(params, carry, inputs, key):
        size = inputs.obs.shape[1]
        return carry, jnp.full((size, 5), 2.0 if key is None else 3.0), jnp.zeros(size)

    learner = toys.learner(1, 1)._replace(act=act)
    play = evaluation.make(Paid(), toys.agent(), learner, toys.clock())
    found = play({"agent": {}}, Paid().task_set("train"), jax.random.key(0))
    np.testing.assert_array_equal(found.returns, 8.0)
    np.testing.assert_array_equal(found.sampled, 12.0)


def test_beliefs_are_held_against_the_label_of_the_same_step():
    """The agent predicts the clock in its observation, which is the label of the same step."""
    np.testing.assert_array_equal(evaluated(2).label_nll, 0.0)
    late = toys.clock()._replace(label=lambda carry, *now: (carry, now[2].steps[None] - 1.0))
    np.testing.assert_array_equal(evaluated(2, late).label_nll, 1.0)


def test_without_a_head_there_is_no_likelihood():
    learner, agent = toys.learner(1, 1), toys.agent()._replace(belief_log_prob=None)
    play = evaluation.make(WORLD, agent, learner, toys.clock())
    found = play({"agent": {}, "version": 0}, WORLD.task_set("train"), jax.random.key(0))
    assert found.label_nll is None


def test_a_part_is_of_its_tasks():
    found = evaluation.part(evaluated(5), 1, 3)
    np.testing.assert_array_equal(found.returns, 6000 * toys.HOLDOUT[1:3] + 12)
    np.testing.assert_array_equal(found.quarters[3], 1000 * toys.HOLDOUT[1:3] + 3)
    assert found.label_nll.shape == (6, 2)


REFERENCES = References(random=2.0, expert=10.0, explorer=6.0)


@pytest.mark.parametrize(("returns", "score"), [(2.0, 0.0), (10.0, 1.0), (6.0, 0.5), (0.0, -0.25)])
def test_random_scores_0_and_the_expert_1(returns, score):
    assert evaluation.normalise(returns, REFERENCES) == score


def test_without_an_expert_that_beats_chance_there_is_nothing_to_normalise_by():
    assert evaluation.references({"random": 2.0, "expert": 10.0, "explorer": 6.0}) == REFERENCES
    assert evaluation.references({"random": 2.0, "expert": 10.0}) == References(2.0, 10.0, None)
    assert evaluation.references({"random": 2.0, "expert": 2.0}) is None
    assert evaluation.references({"random": 2.0}) is None


def test_classes_are_tallied_by_the_probability_that_was_said():
    """Two places of three classes: 0.05 twice, 0.15, 0.25, 0.7 and 0.8; the last two are true."""
    probs = jnp.array([[0.05, 0.7, 0.25], [0.8, 0.15, 0.05]])
    said, found, count = evaluation.tally_classes(probs, jnp.array([1, 0]))
    np.testing.assert_array_equal(count, [2, 1, 1, 0, 0, 0, 0, 1, 1, 0])
    np.testing.assert_allclose(said, [0.1, 0.15, 0.25, 0, 0, 0, 0, 0.7, 0.8, 0], rtol=1e-6)
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 0, 0, 0, 1, 1, 0])


def test_numbers_are_tallied_by_central_intervals():
    """With masses of 0.5, 0.32 and 0.97 below it, the true number lies on the boundary of the
    central intervals of masses 0, 0.36 and 0.94."""
    said, found, count = evaluation.tally_numbers(jnp.array([[0.5], [0.32], [0.97]]))
    np.testing.assert_array_equal(count, np.full(9, 3))
    np.testing.assert_allclose(said, 0.3 * np.arange(1, 10), rtol=1e-6)
    np.testing.assert_array_equal(found, [1, 1, 1, 2, 2, 2, 2, 2, 2])


def test_the_interval_is_the_95_percent_one_of_the_mean():
    """For many normal values it extends 1.96 standard errors to each side of the mean."""
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = evaluation.interval(values)
    mean, error = values.mean(), values.std() / np.sqrt(400)
    wanted = [mean - 1.96 * error, mean + 1.96 * error]
    np.testing.assert_allclose([low, high], wanted, atol=0.02)
    assert evaluation.interval(values) == (low, high)
    assert evaluation.interval(np.full(7, 3.0)) == (3.0, 3.0)
    assert evaluation.interval(np.array([3.0])) == (3.0, 3.0)
