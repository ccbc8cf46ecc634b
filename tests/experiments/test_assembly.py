"""Tests of a run's tasks and environments in training and evaluation, and of its length."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief.evaluation import References
from tests import wiring
from tests.experiments import tiny

SEARCH = ["--env", "sparse_navigation", "--agent", "belief", *tiny.SIZES, "--steps", "400"]
SEARCH += ["--env.episode_steps", "5", "--env.episodes", "2", "--env.test_episodes", "3"]


@pytest.fixture(scope="module")
def search():
    return wiring.assemble(*SEARCH)


def test_scores_of_a_set_are_of_its_tasks(search):
    train, holdout = (search.env.task_set(split).goal[:20] for split in ("train", "holdout"))
    np.testing.assert_array_equal(search.exam.tasks.goal, jnp.concatenate([train, holdout]))
    # returns: training tasks 1, hold-out tasks 5, random actions 0, experts 4 and 8
    returns = [1.0] * 20 + [5.0] * 20
    references = {
        "train": References(0.0, 4.0, None),
        "holdout": References(0.0, 8.0, 2.0),
    }
    found = wiring.scores(search, references, returns)
    wanted = {
        "eval/train/return": 1.0,
        "eval/train/score": 0.25,
        "eval/holdout/return": 5.0,
        "eval/holdout/score": 0.625,
        "eval/holdout/score_over_explorer": 2.5,
        "eval/gap": 0.25 - 0.625,
        "eval/holdout/return_quarter_4": 1.25,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "eval/train/score_over_explorer" not in found


@pytest.mark.parametrize(
    ("label", "sets"), [("task_index", ["train"]), ("description", ["train", "holdout"])]
)
def test_labels_that_name_training_tasks_have_no_likelihood_on_others(label, sets):
    names = ["--env", "bandit", "--agent", "belief", "--label", label]
    parts = wiring.assemble(*names, *tiny.SIZES)
    nll = np.concatenate([np.full((100, 20), 2.0), np.full((100, 20), 3.0)], axis=1)
    found = wiring.scores(parts, dict.fromkeys(("train", "holdout")), np.zeros(40), nll)
    wanted = {"eval/train/label_nll": 2.0, "eval/holdout/label_nll": 3.0}
    wanted = {name: value for name, value in wanted.items() if name.split("/")[1] in sets}
    assert {name: value for name, value in found.items() if name.endswith("nll")} == wanted


def test_evaluations_play_the_environment_as_it_is_at_test(search):
    """They play three episodes where training has two, and compare beliefs in those too."""
    played, divergence = jax.eval_shape(search.evaluate, search.placed.like.learner.params)
    assert played.label_nll.shape == (15, 40)
    assert divergence.shape == (15, 20)  # hold-out tasks only
    assert search.env.spec.episodes_per_task == 3
    # training uses the flags' settings
    assert search.placed.like.replay.rows.reward.shape[-1] == 10
    assert search.length.iteration_steps == 4 * 10


def test_runs_with_other_seeds_share_a_compiled_program(search):
    """Of the programs, `init` alone reads the seeds, as an argument."""
    other = wiring.assemble(*SEARCH, "--seed", "7").placed
    assert (search.placed.seeds.tolist(), other.seeds.tolist()) == ([0], [7])
    programs = {placed.init.lower(placed.seeds).as_text() for placed in (search.placed, other)}
    assert len(programs) == 1


@pytest.mark.parametrize("learner", ["svg0", "ppo"])
def test_schedules_end_when_the_run_does(learner):
    """With a learning rate that decays to zero, the last update still moves the parameters, and
    one more does not."""
    flags = ["--env", "bandit", "--agent", "baseline", "--learner", learner, "--env.arms", "3"]
    flags += ["--env.horizon", "4", "--train.envs", "4", "--train.warmup", "1"]
    flags += ["--train.batch", "4", "--train.replay_rows", "16", "--evaluation_tasks", "2"]
    flags += ["--agent.hidden", "4", "--agent.encoder", "4", "--learner.actor_hidden", "4"]
    flags += ["--learner.critic_hidden", "4", "--learner.learning_rate_end", "0"]
    # three iterations, after a warm-up iteration of svg0
    flags += ["--steps", str((3 + (learner == "svg0")) * 16)]
    if learner == "svg0":
        flags += ["--train.updates", "2"]
    else:
        flags += ["--learner.minibatches", "2"]
    parts = wiring.assemble(*flags)
    assert parts.length.iterations == 3
    states = [parts.placed.init(parts.placed.seeds)]
    for number in range(4):
        states.append(parts.placed.step(states[-1], parts.length.collections(number))[0])
    params = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.learner.params)])
        for state in states
    ]
    pairs = itertools.pairwise(params)
    steps = [np.abs(after - before).max() for before, after in pairs]
    assert min(steps[:3]) > 1e-6
    assert steps[3] == 0.0


@pytest.mark.parametrize(
    ("learner", "steps", "iterations", "warmup"),
    # iterations of 4 x 100 steps; steps of the warm-up count
    [("svg0", 4000, 9, 1), ("svg0", 4001, 10, 1), ("ppo", 4000, 10, 0), ("svg0", 1, 1, 1)],
)
def test_steps_are_rounded_up_to_whole_iterations(learner, steps, iterations, warmup):
    sizes = tiny.SIZES + (["--learner.minibatches", "2"] if learner == "ppo" else [])
    parts = wiring.assemble(*tiny.NAMES, "--learner", learner, *sizes, "--steps", str(steps))
    assert (parts.length.iterations, parts.length.warmup) == (iterations, warmup)
    assert parts.length.iteration_steps == 400


def test_only_those_who_learn_from_labels_are_told_them():
    """An oracle observes its label in training and at test."""
    names = ["--env", "semicircle", *tiny.SIZES, "--steps", "400"]
    parts = {
        agent: wiring.assemble("--agent", agent, *(names if head else without_head(names)))
        for agent, head in (("baseline", False), ("belief", True), ("oracle", False))
    }
    assert parts["baseline"].placed.like.replay.rows.label.h == ()
    goals = parts["belief"].placed.like.replay.rows.label.h  # [rings, rows, T, 2]
    assert goals.shape[-1] == 2
    size = parts["belief"].env.spec.obs_dim
    for name, told in (("baseline", False), ("belief", False), ("oracle", True)):
        assert parts[name].trainer.agent.needs.revealed == told
        assert (wiring.seen(parts[name]).spec.obs_dim > size) == told
        assert parts[name].env.spec.obs_dim == size


def without_head(flags):
    at = flags.index("--agent.head_hidden")
    return flags[:at] + flags[at + 2 :]


def test_several_seeds_are_those_that_follow():
    parts = wiring.assemble(*tiny.NAMES, *tiny.SIZES, "--seed", "3", "--num-seeds", "2")
    assert parts.where.seeds == (3, 4)
    assert parts.placed.like.key.shape == (2,)
