"""Tests of the trainer: the length of training, and a trained oracle as an expert."""

import jax
import numpy as np
import pytest

import taskbelief
from taskbelief import problem, trainer, training
from taskbelief.agents import baseline, oracle
from taskbelief.learners import svg0
from taskbelief.types import Needs
from tests.wiring import SMALL


def test_a_trained_oracle_advises_what_it_would_do_itself():
    """It observes the label in its own environment; as an expert for another agent, whose
    observations lack the label, it receives the label too."""
    posed = problem.make(taskbelief.make("semicircle", **SMALL["semicircle"]), "expert_goal")
    agent = oracle.make(posed, oracle.Config(hidden=8, encoder=8))
    learner = svg0.make(posed, agent, svg0.Config(actor_hidden=8, critic_hidden=8))
    trained = trainer.make(posed, agent, learner, training.Config())
    params = learner.init(jax.random.key(0)).params
    tasks = posed.env.task_set("train", 3)
    played = jax.jit(trained.play)(params, tasks, jax.random.key(1))
    size = posed.spec.obs_dim
    bare = played.inputs._replace(obs=played.inputs.obs[..., :size])
    expert = trainer.expert(trained, params)
    assert expert.table is None

    @jax.jit
    def advise(inputs, tasks):
        def one(task, inputs):
            def step(carry, now):
                return expert.act(carry, jax.random.key(0), now, None, task)

            return jax.lax.scan(step, expert.initial_carry, inputs)[1]

        return jax.vmap(one, in_axes=(0, 1), out_axes=1)(tasks, inputs)

    inputs = jax.tree.map(lambda leaf: leaf[:-1], bare)
    advised = advise(inputs, tasks)
    np.testing.assert_allclose(advised, played.action, atol=1e-6)
    others = jax.tree.map(lambda leaf: leaf[::-1], tasks)
    assert not np.allclose(advise(inputs, others)[:, 0], played.action[:, 0], atol=1e-6)


def test_only_an_oracle_is_an_expert():
    posed = problem.make(taskbelief.make("bandit", **SMALL["bandit"]))
    agent = baseline.make(posed)
    learner = svg0.make(posed, agent)
    made = trainer.make(posed, agent, learner, training.Config())
    with pytest.raises(ValueError, match="has to be an oracle"):
        trainer.expert(made, learner.init(jax.random.key(0)).params)


def test_how_long_training_is():
    """By hand: a collection has 4 meta-episodes of 8 steps, so 32 steps; 100 steps are four
    collections, of which the first iteration makes 3 and the second 1."""
    posed = problem.make(taskbelief.make("bandit", arms=3, horizon=8))
    sizes = training.Config(envs=4, warmup=2, updates=3)
    length = trainer.length(posed, Needs(), sizes, 100)
    assert length == trainer.Length(2, 2, 32, 6)
    assert [length.collections(number) for number in (0, 1, 2)] == [3, 1, 1]
    assert [length.steps(number) for number in (0, 1, 2)] == [0, 96, 128]
    assert trainer.length(posed, Needs(), sizes, 128).iterations == 2
    assert trainer.length(posed, Needs(), sizes, 129).iterations == 3
    assert trainer.length(posed, Needs(on_policy=True), sizes, 100) == trainer.Length(4, 0, 32, 4)
    assert trainer.length(posed, Needs(), sizes, 10).iterations == 1
