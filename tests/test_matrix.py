"""Tests of every environment with every agent, learner and label: two compiled iterations, or a
refusal; and actions do not depend on labels."""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

import taskbelief
from taskbelief import problem, registry, trainer, training
from tests.wiring import SMALL, play, small

REWARD_ALONE = "reward alone"
LABELS = registry.names("labels")


def needs(agent):
    return registry.find("agents", agent).Config().needs


def combinations():
    """Yields (env, agent, learner, label), once for all labels if the agent uses none."""
    for env, agent, learner in itertools.product(
        registry.names("envs"), registry.names("agents"), registry.names("learners")
    ):
        for label in LABELS if needs(agent).label else [REWARD_ALONE]:
            yield env, agent, learner, label


def refusal(env, agent, learner, label):
    """Returns part of the error message of an invalid combination; None: it is valid."""
    if agent == "pearl" and env != "sparse_navigation":
        return "one single episode"
    if agent == "oracle" and label == "task_embedding":
        return "task_embedding"
    if label == "expert_action" and env == "cheetah_velocity":
        return "no scripted expert"
    if (agent == "pearl") != (learner == "sac"):
        return "pearl from single transitions" if agent == "pearl" else "pearl alone"
    return None


def depth(request, env, agent, learner, label):
    """Returns "compile", "trace" or "skip". With --matrix all are compiled. Without it, each pair
    of environment and agent has one learner, in rotation, and is traced with a third of the labels,
    so that each environment has all of them (but for task_embedding in an oracle's turn); every
    third pair is compiled with one label. Brax compiles slowly: one agent represents all, and is
    traced."""
    if request.config.getoption("--matrix"):
        return "compile"
    number = registry.names("agents").index(agent)
    turn = registry.names("envs").index(env) + number
    if learner != ("ppo", "svg0")[turn % 2] and agent != "pearl":
        return "skip"
    if env == "cheetah_velocity" and agent != "belief":
        return "skip"
    if label in (REWARD_ALONE, LABELS[turn % len(LABELS)]):
        compiled = (turn % 3 == 0 and env != "cheetah_velocity") or agent == "pearl"
        return "compile" if compiled else "trace"
    # those that use labels have the numbers 0, 2 and 4
    traced = (turn - number // 2 + LABELS.index(label)) % 3 == 0 and env != "cheetah_velocity"
    return "trace" if traced else "skip"


def build(env_name, agent_name, learner_name, label, **settings):
    """Returns the training functions, with the smallest sizes."""
    env = taskbelief.make(env_name, **SMALL[env_name] | settings)
    agent_module = registry.find("agents", agent_name)
    label = "description" if label == REWARD_ALONE else label
    taught = label == "task_embedding" and not needs(agent_name).revealed
    posed = problem.make(env, label, embedder(env) if taught else None)
    agent = agent_module.make(posed, narrow(agent_module.Config))
    learner_module = registry.find("learners", learner_name)
    learner = learner_module.make(posed, agent, narrow(learner_module.Config), 2)
    sizes = training.Config(envs=2, updates=1, batch=2, replay_rows=4)
    return trainer.make(posed, agent, learner, sizes)


def narrow(config):
    """Returns the default settings, with few units."""
    small = {
        "hidden": 4,
        "encoder": 4,
        "head_hidden": 4,
        "hypotheses": 8,
        "actor_hidden": 4,
        "critic_hidden": 4,
        "minibatches": 2,
        "epochs": 1,
    }
    names = {field.name for field in dataclasses.fields(config)}
    return config(**{name: value for name, value in small.items() if name in names})


@functools.cache
def embedder(env):
    """Returns an untrained oracle with its table of task embeddings, as an expert."""
    oracle, svg0 = registry.find("agents", "oracle"), registry.find("learners", "svg0")
    posed = problem.make(env, "task_index")
    config = dataclasses.replace(narrow(oracle.Config), condition="embedding")
    agent = oracle.make(posed, config)
    learner = svg0.make(posed, agent, narrow(svg0.Config), 1)
    made = trainer.make(posed, agent, learner, training.Config())
    return trainer.expert(made, learner.init(jax.random.key(0)).params)


@pytest.mark.parametrize("names", list(combinations()), ids="-".join)
def test_two_iterations_or_a_refusal(names, request):
    refused = refusal(*names)
    if refused is not None:
        with pytest.raises(ValueError, match=refused):
            build(*names)
        return
    how = depth(request, *names)
    if how == "skip":
        pytest.skip("with --matrix only")
    functions = build(*names)

    def two_iterations(key):
        state = functions.init(key)
        before = state.learner.params
        state, metrics = jax.lax.scan(functions.step, state, jnp.array([2, 1]))
        moved = jax.tree.map(lambda a, b: jnp.any(a != b), before, state.learner.params)
        return metrics, moved, state.env_steps

    if how == "trace":
        metrics, _, _ = jax.eval_shape(two_iterations, jax.random.key(0))
    else:
        metrics, moved, env_steps = jax.jit(two_iterations)(jax.random.key(0))
        spec = taskbelief.make(names[0], **SMALL[names[0]]).spec
        played = 2 if names[2] == "ppo" else 3  # others collect twice before the first update
        assert env_steps == played * 2 * spec.task_steps
        lowest, highest = (bound * spec.task_steps for bound in spec.reward_range)
        assert jnp.all((lowest <= metrics["return"]) & (metrics["return"] <= highest))
        assert all(jnp.all(jnp.isfinite(value)) for value in metrics.values()), metrics
        assert all(jax.tree.leaves(moved)), moved
    assert ("belief_nll" in metrics) == (names[1] in ("aux_head", "belief"))


def test_pearl_in_several_episodes_of_another_environment():
    made = build("semicircle", "pearl", "sac", REWARD_ALONE, horizon=3, episodes=2)

    def iteration(key):
        return made.step(made.init(key))

    state, metrics = jax.eval_shape(iteration, jax.random.key(0))
    assert state.replay.rows.reward.shape == (1, 100, 1, 6)
    assert {"critic_loss", "latent_kl", "return"} <= set(metrics)


def blind(names):
    """Yields each valid (env, agent, learner) whose agent does not observe the label; one learner
    represents all on the cheetah, whose physics is traced slowly."""
    for env, agent, learner in names:
        if env == "cheetah_velocity" and learner != "svg0":
            continue
        if not needs(agent).revealed and refusal(env, agent, learner, REWARD_ALONE) is None:
            yield env, agent, learner


@pytest.mark.parametrize(
    "names",
    list(
        blind(
            itertools.product(
                registry.names("envs"), registry.names("agents"), registry.names("learners")
            )
        )
    ),
    ids="-".join,
)
def test_label_cannot_leak(names):
    """By data flow: actions, observations and rewards do not depend on the label, nor on the task
    that it contains."""
    env_name, agent_name, learner_name = names
    module = registry.find("learners", learner_name)

    def trajectory(mark, mark_of_task):
        env, agent, learner, teach = small(
            env_name, agent_name, learner=module, wrap=lambda env: marked(env, mark_of_task)
        )

        def label(carry, key, inputs, state, task):
            carry, h = teach.label(carry, key, inputs, state, task)
            return carry, h + mark.astype(h.dtype)

        assert teach.task or learner_name == "sac"  # privileged critics are the default
        return play(env, agent, learner, teach._replace(label=label, task=True))[1]

    zero = jnp.zeros(())
    program, shape = jax.make_jaxpr(trajectory, return_shape=True)(zero, zero)
    assert needed(program, [name == "label" for name in names_of(shape)]) == [True, True]
    assert needed(program, [name != "label" for name in names_of(shape)]) == [False, False]


@pytest.mark.parametrize(
    ("agent_name", "learner_name"),
    [
        (agent, learner)
        for env, agent, learner in blind(
            itertools.product(["sparse_navigation"], registry.names("agents"), ["ppo", "svg0"])
        )
    ],
)
def test_the_critic_learns_from_the_task_in_the_label(agent_name, learner_name):
    """By data flow: the critic's loss depends on the task, the belief's loss does not."""
    module = registry.find("learners", learner_name)

    def losses(mark_of_task):
        env, agent, learner, teach = small(
            "sparse_navigation",
            agent_name,
            learner=module,
            label="posterior_goal",
            wrap=lambda env: marked(env, mark_of_task),
        )
        _, batch = play(env, agent, learner, teach)
        state = learner.init(jax.random.key(0))
        return learner.update(state, batch, jax.random.key(1))[1]

    program, shape = jax.make_jaxpr(losses, return_shape=True)(jnp.zeros(()))
    names = sorted(shape)
    assert needed(program, [name == "critic_loss" for name in names]) == [True]
    if "belief_nll" in names and learner_name == "svg0":  # ppo's metric is a mean over updates
        assert needed(program, [name == "belief_nll" for name in names]) == [False]


class Marked(NamedTuple):
    """A task with a mark."""

    task: Any
    mark: jax.Array  # [] float32, 0


def marked(env, mark):
    """Returns `env` with `mark` in its tasks: `describe` depends on the mark, everything else
    ignores it."""
    kind = type(env)

    def bare(task):
        """Removes the mark; the environment's own methods call each other with bare tasks."""
        return task.task if isinstance(task, Marked) else task

    class With(kind):
        def sample_task(self, key):
            return Marked(kind.sample_task(self, key), mark)

        def reset(self, key, task):
            return kind.reset(self, key, bare(task))

        def step(self, key, state, action, task):
            return kind.step(self, key, state, action, bare(task))

        def describe(self, task):
            h = kind.describe(self, bare(task))
            return h + task.mark.astype(h.dtype) if isinstance(task, Marked) else h

        def goal(self, obs, task):
            return kind.goal(self, obs, bare(task))

    fields = {field.name: getattr(env, field.name) for field in dataclasses.fields(env)}
    return With(**fields)


def names_of(shape):
    """Returns the field of a trajectory that each of its leaves belongs to."""
    return [name for name in shape._fields for _ in jax.tree.leaves(getattr(shape, name))]


def needed(program, kept):
    """Returns, for each input of a program, whether the outputs that are `kept` depend on it."""
    return partial_eval.dce_jaxpr(program.jaxpr, kept)[1]


def test_label_of_nan_changes_nothing():
    """With labels of NaN, the trajectory is bit-identical."""
    env, agent, learner, teach = small("bandit", "belief")

    def nan(carry, key, inputs, state, task):
        carry, h = teach.label(carry, key, inputs, state, task)
        poison = jnp.nan if h.dtype == jnp.float32 else -(2**31)
        return carry, jnp.full_like(h, poison)

    poisoned = teach._replace(label=nan)
    _, honest = jax.jit(lambda: play(env, agent, learner, teach))()
    _, blind = jax.jit(lambda: play(env, agent, learner, poisoned))()
    for name in ("inputs", "action", "log_prob", "reward"):
        jax.tree.map(np.testing.assert_array_equal, getattr(honest, name), getattr(blind, name))
