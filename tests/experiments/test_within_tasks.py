"""Tests of studies within a task: returns by episode, and beliefs at each step."""

import json
import sys

import numpy as np
import pytest

from experiments import adaptation, beliefs, run, tracking
from tests.experiments import tiny


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "searcher"
    names = ["--env", "sparse_navigation", "--agent", "belief"]
    episodes = ["--env.episode_steps", "10", "--env.episodes", "2", "--env.test_episodes", "3"]
    more = ["--steps", "160", "--rows", "1", "--belief_tasks", "4", "--out", str(out)]
    run.main([*names, *tiny.SIZES, *episodes, *more])
    return out


def test_adaptation_splits_meta_episodes(searcher, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["adaptation", str(searcher), "--out", str(tmp_path)])
    adaptation.main()
    (played,) = adaptation.play(searcher)
    assert played.returns.shape == (20, 3)
    assert played.paths.shape == (20, 3, 11, 2)
    np.testing.assert_array_equal(played.paths[:, :, 0], 0.0)  # each episode from the origin
    assert (np.abs(np.diff(played.paths, axis=2)) <= 0.1 + 1e-5).all()
    record, explorer = json.loads((tmp_path / "adaptation.json").read_text())
    # 10 steps of 0.1 along each axis: a goal that is hit once is hit again
    assert explorer["tasks"] == 200
    assert 0.0 < explorer["return_by_episode"][0] < explorer["return_by_episode"][2]
    np.testing.assert_allclose(record["return_by_episode"], played.returns.mean(0), atol=1e-4)
    hit = [(played.returns[:, : num + 1] > 0).any(axis=1).mean() for num in range(3)]
    np.testing.assert_allclose(record["hit_by_episode"], hit, atol=1e-4)
    assert (played.paths[:, :, -1] != 0.0).any(axis=-1).all()  # ends of paths, before the reset
    assert (tmp_path / "adaptation.png").stat().st_size > 1000
    assert "searcher" in capsys.readouterr().out


def test_what_is_said_of_a_search_by_hand():
    """Two tasks of three episodes: one goal is reached in the second episode, the other never."""
    angles = np.array([[0.5, 1.5, 1.5], [0.5, 1.0, 2.1]])
    ends = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    paths = np.stack([np.zeros_like(ends), ends], axis=2)  # straight from the origin
    goals = np.array([[np.cos(1.5), np.sin(1.5)], [0.0, -1.0]])
    returns = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    played = adaptation.Played("one", "pearl", 0, returns, paths, goals, 0.2)
    np.testing.assert_array_equal(played.searching, [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_allclose(played.end_distance[0], [2 * np.sin(0.5), 0, 0], atol=1e-6)
    spread = (0.5 + np.std([0.5, 1.0, 2.1])) / 2
    assert played.search_spread == pytest.approx(spread)


def test_beliefs_are_held_against_the_posterior_at_every_step(
    searcher, tmp_path, monkeypatch, capsys
):
    arguments = ["beliefs", str(searcher), "--out", str(tmp_path), "--tasks", "8"]
    monkeypatch.setattr(sys, "argv", arguments)
    beliefs.main()
    (record,) = json.loads((tmp_path / "beliefs.json").read_text())
    assert len(record["kl_by_step"]) == 3 * 10
    assert record["tasks"] == 8
    assert record["env_steps"] == sorted(record["env_steps"])
    assert record["env_steps"][0] == 0
    assert len(record["kl_over_training"]) == len(record["env_steps"])
    assert record["kl_over_training"][-1] == pytest.approx(np.mean(record["kl_by_step"]), abs=1e-3)
    assert min(record["kl_by_step"]) >= 0.0  # computed on a grid, without sampling noise
    assert (tmp_path / "beliefs.png").stat().st_size > 1000
    assert "nats" in capsys.readouterr().out


def test_speeds_are_drawn_beside_their_targets(tmp_path):
    target = np.asarray([1.0, 2.0, 3.0])
    speed = np.stack([np.linspace(0, 1, 30), np.full(30, 2.0), np.full(30, 2.5)])
    tracked = tracking.Tracked("one", "belief", 0, speed, target)
    np.testing.assert_allclose(tracked.error[:, -1], [0.0, 0.0, 0.5])
    np.testing.assert_allclose(tracked.error[:, 0], [1.0, 0.0, 0.5])
    tracking.draw([tracked, tracked._replace(agent="oracle")], tmp_path / "tracking.png")
    assert (tmp_path / "tracking.png").stat().st_size > 1000


def test_only_the_cheetah_has_a_target_speed(searcher):
    with pytest.raises(SystemExit, match="2"):
        tracking.track(searcher)
