"""Tests of pictures of every environment, and of films and stills."""

import sys
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import taskbelief
from experiments import references, watch
from taskbelief import render, rollout

NAMES = [name for name in taskbelief.environments() if name != "cheetah_velocity"]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_every_environment_shows_what_happens(name):
    env = taskbelief.make(name)
    task = jax.tree.map(lambda leaf: leaf[0], env.task_set("holdout"))
    policy = rollout.uniform_random(env.spec)
    labels, history = watch.play(env, policy, task, jax.random.key(0))
    states, actions, rewards, beliefs = history
    assert len(rewards) == env.spec.task_steps
    whole = env, task, states, actions, rewards, beliefs, labels
    first, last = (render.still(*whole, step=step) for step in (0, len(rewards)))
    assert first.shape == last.shape and first.dtype == np.uint8 and first.shape[2] == 3
    assert np.mean(first != last) > 0.005
    assert type(env) in render._SCENES


def test_cheetah_has_a_scene_and_its_body_is_in_one_piece():
    env: Any = taskbelief.make("cheetah_velocity")
    assert type(env) in render._SCENES
    _, state = jax.jit(env.reset)(jax.random.key(0), None)
    pose = jax.tree.map(np.asarray, state.body.pipeline_state)
    ends, radii = render._outline(env.backend, pose)
    assert ends.shape == (8, 2, 3) and radii.shape == (8,)
    near = np.linalg.norm(ends.reshape(-1, 1, 3) - ends.reshape(1, -1, 3), axis=-1)
    assert np.all((near < 0.15).sum(-1) >= 1) and near.max() < 2.0
    assert ends[..., 2].min() > -0.15  # on the ground, not under it


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_watch_writes_files(suffix, tmp_path, monkeypatch):
    out = tmp_path / f"film{suffix}"
    arguments = ["--env", "bandit", "--policy", "ucb", "--every", "25", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["watch", *arguments])
    watch.main()
    with Image.open(out) as image:
        assert image.width > 400
        assert getattr(image, "n_frames", 1) == (5 if suffix == ".gif" else 1)


def test_watch_says_what_there_is(tmp_path, monkeypatch, capsys):
    for arguments, said in [
        (["--env", "bandit", "--policy", "best", "--out", "a.gif"], "thompson"),
        (["--env", "bandit", "--out", "a.mp4"], "must end in"),
    ]:
        monkeypatch.setattr(sys, "argv", ["watch", *arguments])
        with pytest.raises(SystemExit):
            watch.main()
        assert said in capsys.readouterr().err


def test_references_are_found_measured_and_normalise(monkeypatch, tmp_path):
    env = taskbelief.make("bandit")
    kept = references.references(env)
    assert kept in references.load()
    random, expert = (kept["holdout"][name]["mean"] for name in ("random", "expert"))
    assert references.score(random, env) == 0.0 and references.score(expert, env) == 1.0
    small = taskbelief.make("bandit", arms=2, horizon=5, train_tasks=4, holdout_tasks=20)
    measured = references.references(small)
    assert measured["holdout"]["explorer"]["tasks"] == 20
    monkeypatch.setattr(references, "FILE", tmp_path / "references.json")
    references.save(measured)
    references.save(measured)
    assert references.load() == [measured]
