"""Tests of the README: its examples run, with the described results."""

import importlib.util
import re
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats

from experiments import command

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(word):
    """Runs the only block that contains `word`; returns its names."""
    (block,) = [block for block in BLOCKS if word in block]
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_there_is_a_test_for_each_block():
    assert len(BLOCKS) == 8  # test_wheel.py tests one of them


def test_an_environment():
    shown = run('taskbelief.make("numpad", size=3, length=4)')
    env, task, state = shown["env"], shown["task"], shown["state"]
    assert shown["obs"].shape == (env.spec.obs_dim,)
    assert len(set(env.describe(task).tolist())) == 4  # distinct pads
    train, holdout = (
        {tuple(row) for row in env.task_set(split).sequence.tolist()}
        for split in ("train", "holdout")
    )
    assert train and holdout and not train & holdout
    # a step at full force, to the upper right
    before = env.reset(jax.random.key(1), task)[1].position
    assert (state.position >= before).all() and (state.position > before).any()
    assert shown["reward"] in (0.0, 1.0) and not shown["terminated"]


def test_the_exact_posterior():
    """Compares with Beta distributions of SciPy; a hundred pulls are informative."""
    shown = run("posterior.make(env)")
    belief, probabilities = shown["belief"], np.asarray(shown["task"].probabilities)
    wins, losses = np.asarray(belief.wins), np.asarray(belief.losses)
    assert wins.sum() + losses.sum() == 100
    betas = scipy.stats.beta(1 + wins, 1 + losses)
    np.testing.assert_allclose(shown["exact"].mean(belief), betas.mean(), rtol=1e-5)
    log_probs = shown["log_probs"]
    np.testing.assert_allclose(log_probs[-1], betas.logpdf(probabilities).sum(), rtol=1e-4)
    assert log_probs[-1] > 1.0 > log_probs[0]  # the prior's density is 1


@pytest.mark.filterwarnings("ignore")
def test_a_pendulum_of_unknown_mass():
    pytest.importorskip("gymnax")
    pendulum = run("from_gymnax(")["pendulum"]
    assert pendulum.spec.task_steps == 100
    masses = np.asarray(jax.vmap(pendulum.describe)(pendulum.task_set("train")))
    assert masses.shape == (100, 1) and 0.5 <= masses.min() < 0.6 and 1.4 < masses.max() <= 1.5


def test_gymnax():
    pytest.importorskip("gymnax")
    shown = run("adapters import gymnax")
    env, obs = shown["env"], shown["obs"]
    assert obs.shape == (64, *env.observation_space(shown["params"]).shape)
    assert set(np.unique(shown["reward"])) <= {0.0, 1.0} and shown["reward"].shape == (64,)
    assert not shown["terminated"].any() and not shown["truncated"].any()
    tasks = np.asarray(shown["state"].task.sequence)
    assert tasks.shape == (64, 4) and len(np.unique(tasks, axis=0)) > 30  # of a hundred


@pytest.mark.filterwarnings("ignore")
def test_brax(capsys):
    shown = run("adapters import brax")
    state = shown["state"]
    assert state.obs.shape == (64, shown["env"].observation_size)
    np.testing.assert_array_equal(state.info["steps"], np.ones(64))
    said = capsys.readouterr().out.split()[-1]
    assert float(said) == pytest.approx(float(state.reward.mean()))


def test_gymnasium():
    pytest.importorskip("gymnasium")
    shown = run("adapters.gymnasium")
    one, several = shown["env"], shown["envs"]
    assert one.observation_space.shape == one.reset(seed=0)[0].shape
    assert several.num_envs == 64
    assert shown["obs"].shape == several.observation_space.shape
    assert shown["reward"].shape == (64,)
    assert set(np.unique(shown["reward"])) == {0.0, 1.0}  # some of the 64 arms win and some do not
    assert not shown["terminated"].any() and not shown["truncated"].any()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m ([\w.]+)", README))))
def test_commands_are_there(name):
    assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize(
    "flags", sorted(set(re.findall(r"experiments\.run (--env \w+ --agent \w+)`", README)))
)
def test_runs_can_be_started(flags):
    chosen, _ = command.parse(flags.split())
    assert flags == f"--env {chosen.env_name} --agent {chosen.agent_name}"


def test_a_score():
    """A policy that repeats a rewarded arm pulls each arm 1 / (1 - p) times in a row on average."""
    shown = run("taskbelief.score(")
    card = shown["card"]
    p = np.asarray(shown["taskbelief"].make("bandit", arms=5).task_set("holdout").probabilities)
    streak = (1 / (1 - np.float64(p))).clip(max=100)
    wanted = 100 * ((p * streak).sum(1) / streak.sum(1)).mean()
    assert card.mean_return == pytest.approx(wanted, rel=0.03)
    assert 0 < card.score < card.standing["explorer"]
