"""Tests of problems: the smallest environment suffices; missing capabilities are refused."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import (
    card,
    explorer,
    posterior,
    problem,
    registry,
    rollout,
    trainer,
    training,
    types,
)
from taskbelief.agents import exact_belief, pearl
from taskbelief.learners import ppo, svg0
from taskbelief.types import (
    Array,
    Discrete,
    EnvSpec,
    HasDenseReward,
    HasExpert,
    HasLikelihood,
    Key,
    Reals,
)


class Place(NamedTuple):
    x: Array  # [] float32 in (-1, 1)


@dataclass(frozen=True)
class Steps:
    """Rewards nearness to a hidden place on a line; it has only the six necessary methods."""

    horizon: int = 6
    low: float = 0.0

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            obs_dim=1,
            action=Discrete(3),
            task=Reals(1, (0.0,), (0.6,)),
            episode_steps=self.horizon,
            reward_range=(self.low, 1.0),
        )

    def sample_task(self, key: Key) -> Place:
        return Place(jax.random.uniform(key, minval=-1.0))

    def task_set(self, split: str, num: int | None = None) -> Place:
        shift = {"train": 0.0, "holdout": 0.01}[split]
        return Place(jnp.linspace(-0.9, 0.9, 10)[:num] + shift)

    def describe(self, task: Place) -> Array:
        return task.x[None]

    def reset(self, key: Key, task: Place):
        return jnp.zeros(1), jnp.zeros(())

    def step(self, key: Key, state: Array, action: Array, task: Place):
        after = state + 0.3 * (action - 1)
        return after[None], after, 1.0 - jnp.abs(after - task.x), jnp.zeros((), bool)


def narrow(module):
    sizes = {"hidden": 4, "encoder": 4, "head_hidden": 4, "actor_hidden": 4, "critic_hidden": 4}
    config = module.Config()
    return type(config)(**{name: size for name, size in sizes.items() if hasattr(config, name)})


@pytest.mark.parametrize(("agent", "learner"), [("belief", svg0), ("oracle", ppo)])
def test_six_methods_are_enough_to_train_and_scores_are_returns(agent, learner):
    posed = problem.make(Steps())
    module = registry.find("agents", agent)
    made = module.make(posed, narrow(module))
    sizes = training.Config(envs=4, updates=1, batch=4, replay_rows=4)
    trained = trainer.make(posed, made, learner.make(posed, made, narrow(learner)), sizes)
    assert trained.compare is None  # no exact posterior

    @jax.jit
    def run(key):
        state, metrics = trained.step(trained.init(key))
        tasks = posed.env.task_set("holdout")
        params = state.learner.params
        return metrics, *(f(params, tasks, key) for f in (trained.evaluate, trained.play))

    metrics, evaluated, played = run(jax.random.key(0))
    returns = np.asarray(played.reward).sum(axis=0)
    np.testing.assert_allclose(evaluated.returns, returns, rtol=1e-5)
    scores = card.of(evaluated, policy="", env="", tasks="holdout").metrics()
    assert scores["return"] == pytest.approx(returns.mean(), rel=1e-5)
    assert not any("score" in name for name in scores)
    assert ("belief_nll" in metrics) == (agent == "belief")


def test_the_smallest_environment_has_no_capabilities():
    env = Steps()
    for capability in (
        types.HasGoal,
        types.HasExpert,
        types.HasLikelihood,
        types.HasIndependentArms,
        types.HasDenseReward,
        types.HasTrainingHelp,
    ):
        assert not isinstance(env, capability)
    assert types.at_test(env) is env
    assert env.spec.goal == env.spec.task


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda env: problem.make(env, "expert_action"), "no scripted expert"),
        (lambda env: problem.make(env, "expert_goal"), "defines no goal of an expert"),
        (lambda env: problem.make(env, "posterior_goal"), "no exact posterior"),
        (lambda env: problem.make(env, "task_embedding"), "needs an expert"),
        (lambda env: problem.make(env, "descriptoin"), "did you mean 'description'"),
        (lambda env: problem.make(env, dense=True), "no dense reward"),
        (lambda env: exact_belief.make(problem.make(env)), "no exact posterior"),
        (lambda env: pearl.make(problem.make(env)), "one single episode"),
        (posterior.make, "no exact posterior"),
        (explorer.thompson, "no exact posterior"),
        (rollout.expert, "no scripted expert"),
    ],
)
def test_what_needs_a_missing_capability_is_refused(ask, said):
    with pytest.raises(ValueError, match=said):
        ask(Steps())


def test_capabilities_of_the_suite():
    def having(capability):
        envs = taskbelief.environments()
        return {name for name in envs if isinstance(taskbelief.make(name), capability)}

    everything = set(taskbelief.environments())
    assert having(HasLikelihood) == having(types.HasGoal) == everything
    assert having(HasExpert) == everything - {"cheetah_velocity"}
    assert having(HasDenseReward) == {"sparse_navigation"}
    assert having(types.HasIndependentArms) == {"bandit"}


@pytest.mark.parametrize("kind", ["agents", "learners"])
def test_components_declare_their_needs(kind):
    found = {name: registry.find(kind, name).Config().needs for name in registry.names(kind)}
    assert all(isinstance(needs, types.Needs) for needs in found.values())
    if kind == "learners":
        assert {name for name, needs in found.items() if needs.on_policy} == {"ppo"}
    else:
        assert {name for name, needs in found.items() if needs.revealed} == {"oracle"}
        assert {name for name, needs in found.items() if needs.posterior} == {"exact_belief"}
        assert {name for name, needs in found.items() if needs.several_episodes} == {"pearl"}
        labelled = {name for name, needs in found.items() if needs.label}
        assert labelled == {"aux_head", "belief", "oracle"}


def test_what_is_privileged_is_the_task_and_its_goal():
    """By hand, for a bandit with two arms of probabilities 0.5 and 0.75: the probabilities, in
    deviations of U(0, 1), then the best arm, one-hot; single and in batches."""
    env = taskbelief.make("bandit", arms=2)
    size, read = problem.make(env, "task_index").privileged()
    task = env.of_probabilities(jnp.array([0.5, 0.75]))
    wanted = [0.0, 0.25 * np.sqrt(12), 0.0, 1.0]
    assert size == 4
    np.testing.assert_allclose(read(jnp.ones(1), task), wanted, rtol=1e-6)
    tasks = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (5, 3, 2)), task)
    found = read(jnp.ones((5, 3, 1)), tasks)
    np.testing.assert_allclose(found, np.broadcast_to(wanted, (5, 3, 4)), rtol=1e-6)
    alike = taskbelief.make("sparse_navigation")  # goal and task have one family: given once
    assert problem.make(alike).privileged().size == 2


def test_what_is_privileged_is_seen_from_where_the_agent_is():
    """With one pad of numpad lit, the goal is the next pad, at (0.5, 0.25) relative to the agent.
    A label at the end of an oracle's observations changes nothing."""
    env = taskbelief.make("numpad")
    task = env.task_set("train", 1)._replace(sequence=jnp.array([4, 5, 2, 1]))
    state = env.reset(jax.random.key(0), task)[1]._replace(
        position=jnp.array([0.5, -0.25]), progress=jnp.array(1)
    )
    obs = env._observe(state, task)
    size, read = problem.make(env).privileged()
    found = read(obs, task)
    assert found.shape == (size,)
    np.testing.assert_allclose(found[-11:], [*np.eye(9)[5], 0.5, 0.25], atol=1e-6)
    told = jnp.concatenate([obs, jnp.full(7, 3.0)])
    np.testing.assert_array_equal(read(told, task), found)
