"""Test of the files of the library that run in one `Trainer.step`."""

import functools
import re
import sys
from pathlib import Path

import jax
import pytest

import taskbelief
from taskbelief import problem, registry, trainer, training
from tests.wiring import SMALL

ROOT = Path(taskbelief.__file__).parent


def made(env, agent_name, learner_name):
    """A trainer of sizes that no other test has: traces of others would hide files."""
    posed = problem.make(taskbelief.make(env, **SMALL[env]))
    agents, learners = registry.find("agents", agent_name), registry.find("learners", learner_name)
    agent = agents.make(posed, agents.Config(hidden=7, encoder=7))
    learner = learners.make(posed, agent, learners.Config(actor_hidden=7, critic_hidden=7))
    sizes = training.Config(envs=4, batch=4, replay_rows=8)
    return trainer.make(posed, agent, learner, sizes)


@functools.cache
def files_of_a_step(env, agent_name, learner_name):
    """Files of the library whose functions run while one step is traced, relative to it."""
    # of another trainer, because `init` traces the collection of meta-episodes too
    state = jax.eval_shape(made(env, agent_name, learner_name).init, jax.random.key(0))
    step = made(env, agent_name, learner_name).step
    found = set()

    def note(frame, event, arg):
        if event == "call":
            found.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        jax.eval_shape(step, state)
    finally:
        sys.setprofile(before)
    paths = (Path(name) for name in found)
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_relative_to(ROOT)}


def test_a_batch_passes_the_thirteen_files_that_the_trainer_names():
    passed = files_of_a_step("bandit", "belief", "svg0")
    named = set(re.findall(r"[a-z_0-9/]+\.py", trainer.__doc__)) | {
        "envs/bandit.py",
        "labels/description.py",
        "learners/svg0.py",
        "agents/belief.py",
    }
    assert passed == named - {"posterior.py", "parallel.py", "tests/test_way.py"}
    assert len(passed) == 13


@pytest.mark.parametrize(
    ("env", "agent", "learner", "differs"),
    [
        ("bandit", "belief", "ppo", {"learners/ppo.py"}),
        ("numpad", "aux_head", "svg0", {"envs/numpad.py", "envs/_ball.py", "agents/aux_head.py"}),
    ],
)
def test_other_parts_take_the_same_way(env, agent, learner, differs):
    """Other components add their own files only."""
    other = files_of_a_step(env, agent, learner)
    assert other - files_of_a_step("bandit", "belief", "svg0") == differs
