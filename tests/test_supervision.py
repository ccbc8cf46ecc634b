"""Tests of teachers: the values of each label, and who receives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import rollout
from taskbelief.types import Categories, Reals
from tests import wiring

NUMPAD = taskbelief.make("numpad")
SEMICIRCLE = taskbelief.make("semicircle")
BANDIT = taskbelief.make("bandit", arms=3)
ENVS = [NUMPAD, SEMICIRCLE, BANDIT]


def said(env, kind, task, key=7, expert=None, made=wiring.teacher):
    """Returns (family, label at the first step, observation, state)."""
    found = made(env, kind, *([expert] if expert else []))
    family, teach = found if isinstance(found, tuple) and len(found) == 2 else (None, found)
    obs, state = env.reset(jax.random.key(3), task)
    _, h = teach.label(teach.init(obs), jax.random.key(key), wiring.moment(env, obs), state, task)
    return family, h, obs, state


def one_of(env, number=5, split="train"):
    return rollout.take(env.task_set(split), number)


@pytest.mark.parametrize(
    "env", [NUMPAD, SEMICIRCLE, BANDIT], ids=["numpad", "semicircle", "bandit"]
)
def test_labels_of_the_task_being_played(env):
    task = one_of(env)
    family, h, _, _ = said(env, "description", task)
    assert family == env.spec.task
    np.testing.assert_array_equal(h, env.describe(task))
    family, h, obs, _ = said(env, "expert_goal", task)
    assert family == env.spec.goal
    np.testing.assert_array_equal(h, env.goal(obs, task))
    assert not np.array_equal(h, env.goal(obs, one_of(env, 12)))
    _, h, _, state = said(env, "expert_action", task)
    action = env.expert(jax.random.key(7), state, task)
    np.testing.assert_array_equal(h, np.reshape(action, h.shape))


def test_families_of_actions():
    assert said(NUMPAD, "expert_action", one_of(NUMPAD))[0] == Reals(2, (0.0, 0.0), (1.0, 1.0))
    assert said(BANDIT, "expert_action", one_of(BANDIT))[0] == Categories(1, 3)


@pytest.mark.parametrize("number", [0, 5, 99])
def test_an_index_is_the_place_in_the_training_set(number):
    family, h, _, _ = said(SEMICIRCLE, "task_index", one_of(SEMICIRCLE, number))
    assert family == Categories(1, 100)
    assert h.tolist() == [number]


def test_an_embedding_is_the_experts_vector_for_the_task():
    table = jnp.arange(300.0).reshape(100, 3)
    expert = wiring.Oracle((), None, "task_index", table)
    family, h, _, _ = said(SEMICIRCLE, "task_embedding", one_of(SEMICIRCLE, 41), expert=expert)
    np.testing.assert_array_equal(h, [123, 124, 125])
    # the mean of 0, 3, ..., 297, and their deviation: 3 * sqrt((100^2 - 1) / 12)
    np.testing.assert_allclose(family.centre, [148.5, 149.5, 150.5])
    np.testing.assert_allclose(family.scale, 3 * np.sqrt(9999 / 12), rtol=1e-4)


def test_goals_of_the_posterior_are_draws_from_it():
    """Goals have the posterior's frequencies, whatever task is played."""
    teach = wiring.teacher(NUMPAD, "posterior_goal")[1]
    tasks, prior = NUMPAD.hypotheses(1000)
    log_probs = jax.nn.log_softmax(prior + 2 * jax.random.normal(jax.random.key(1), prior.shape))
    played = one_of(NUMPAD)
    obs, state = NUMPAD.reset(jax.random.key(0), played)
    belief = teach.init(obs)._replace(log_probs=log_probs)
    keys = jax.random.split(jax.random.key(2), 5000)
    moment = wiring.moment(NUMPAD, obs)
    after, labels = jax.vmap(
        lambda key: teach.label(belief, key, moment, state, played), out_axes=(None, 0)
    )(keys)
    goals = np.asarray(jax.vmap(lambda task: NUMPAD.goal(obs, task))(tasks))[:, 0]
    wanted = np.bincount(goals, np.exp(log_probs), minlength=9)
    found = np.bincount(np.asarray(labels)[:, 0], minlength=9) / len(keys)
    np.testing.assert_array_less(
        np.abs(found - wanted), 4 * np.sqrt(wanted * (1 - wanted) / len(keys)) + 1e-9
    )
    np.testing.assert_array_equal(after.log_probs, log_probs)  # nothing was observed
    # evaluation compares beliefs with the true goal
    h = said(NUMPAD, "posterior_goal", played, made=wiring.examiner)[1]
    first = NUMPAD.reset(jax.random.key(3), played)[0]
    np.testing.assert_array_equal(h, NUMPAD.goal(first, played))


def test_a_trained_oracle_is_asked_what_it_would_do_had_it_been_at_the_wheel():
    """Its own memory follows the history, and it observes the label that it was trained with."""
    env = taskbelief.make("semicircle", horizon=4)
    kind = "description"

    def act(carry, inputs):
        # the count of steps, and the last entry that it observes: the label as networks read it
        return carry + 1.0, jnp.stack([carry[:, 0], inputs.obs[0, :, -1]], axis=-1), ()

    expert = wiring.Oracle(jnp.zeros((1, 1)), act, kind)
    family, teach = wiring.teacher(env, "expert_action", expert)
    assert family == Reals(2, (0.0, 0.0), (1.0, 1.0))
    tasks = env.task_set("train", 3)
    still = lambda carry, inputs, key: (carry, jnp.zeros((3, 2)), jnp.zeros(3))  # noqa: E731
    key = jax.random.key(0)
    h = rollout.collect(env, tasks, key, still, (), teach).label.h
    np.testing.assert_array_equal(h[..., 0], np.arange(4.0)[:, None] + np.zeros(3))
    seen = rollout.collect(wiring.revealed(env, kind), tasks, key, still, ()).inputs.obs
    np.testing.assert_allclose(h[..., 1], seen[:-1, :, -1], rtol=1e-6)
    assert len(np.unique(h[0, :, 1])) == 3


@pytest.mark.parametrize("kind", ["description", "expert_goal", "posterior_goal"])
def test_a_revealed_task_is_the_end_of_what_is_observed(kind):
    """It is the standardised label of the true task, not of one drawn from the posterior."""
    told, plain = wiring.revealed(SEMICIRCLE, kind), SEMICIRCLE
    task = one_of(plain)
    obs, state = told.reset(jax.random.key(0), task)
    size = plain.spec.obs_dim
    assert obs.shape == (told.spec.obs_dim,)
    key = jax.random.split(jax.random.key(0))[0]
    np.testing.assert_array_equal(obs[:size], plain.reset(key, task)[0])
    # another task changes only the end; also after a step, the end differs
    other = told.reset(jax.random.key(0), one_of(plain, 12))[0]
    np.testing.assert_array_equal(other[:size], obs[:size])
    assert not np.allclose(other[size:], obs[size:])
    after = told.step(jax.random.key(1), state, jnp.zeros(2), task)[0]
    other = told.step(jax.random.key(1), state, jnp.zeros(2), one_of(plain, 12))[0]
    assert not np.allclose(other[size:], after[size:])


def test_what_is_revealed_is_at_test_without_help_too():
    env = taskbelief.make("numpad", cues="first", cue_share=0.5)
    assert wiring.revealed(env, "description").at_test().problem.env.cue_share == 0.0


@pytest.mark.parametrize(
    ("kind", "why"), [("tasks", "unknown label 'tasks'"), ("task_embedding", "needs an expert")]
)
def test_refuses(kind, why):
    with pytest.raises(ValueError, match=why):
        wiring.teacher(BANDIT, kind)
