"""Tests of the command that scores a policy: its figures and its refusals."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import score
from taskbelief.card import Calibration
from tests.test_card import played

BANDIT = ["--env", "bandit", "arms=3", "horizon=8", "--num", "40", "--cache", "off"]


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_where_a_policy_stands_is_drawn(axes):
    score._standing(axes, played())
    bars = [bar.get_width() for bar in axes.patches]
    assert bars == [0.0, 0.625, 0.625, 1.0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["random", "explorer", "mine", "expert"]


def test_parts_and_regret_are_drawn_beside_those_of_the_references(axes):
    score._by_part(axes, played(episodes=2))
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert set(lines) == {"random", "expert", "explorer", "mine"}
    np.testing.assert_array_equal(lines["mine"], [2.0, 3.0])
    np.testing.assert_array_equal(lines["expert"], [3.0, 5.0])
    np.testing.assert_array_equal(lines["explorer"], [1.0, 4.0])
    axes.clear()
    one = played()
    score._by_part(axes, dataclasses.replace(one, policy="explorer"))  # a reference is drawn once
    assert len(axes.get_lines()) == 3
    axes.clear()
    score._regret(axes, played())
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert set(lines) == {"explorer", "mine"}
    np.testing.assert_array_equal(lines["mine"], [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(lines["explorer"], [1.0, 2.0, 2.0, 3.0])


def test_beliefs_are_drawn_by_step(axes):
    nll = np.arange(8.0).reshape(4, 2)
    score._belief(axes, played(label_nll=nll, kl=nll / 2))
    drawn = [line.get_ydata() for line in axes.get_lines()]
    np.testing.assert_array_equal(drawn, [[0.5, 2.5, 4.5, 6.5], [0.25, 1.25, 2.25, 3.25]])
    axes.clear()
    right = Calibration(np.array([0.2, 0.5, 0.9]), np.array([0.3, 0, 1]), np.array([2, 0, 1]))
    score._calibration(axes, played(calibration=right))
    np.testing.assert_array_equal(axes.get_lines()[1].get_xydata(), [[0.2, 0.3], [0.9, 1.0]])


def test_a_named_policy_is_scored_and_drawn(tmp_path, capsys):
    score.main(["expert", *BANDIT, "--out", str(tmp_path / "new")])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "expert on bandit, 40 hold-out tasks"
    assert printed[2].split()[1] == "1.000"
    picture = tmp_path / "new" / "score-bandit-expert-holdout.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and printed[-2] == str(picture)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["explorer"], "no such directory, and names of policies need --env"),
        (["explorers", *BANDIT], "no such directory, and bandit has random, expert, explorer"),
        (["arms=3"], "which policy"),
        (["explorer", "arms=3"], "settings need --env"),
        (["explorer", "--env", "bandits"], "did you mean 'bandit'"),
        (["explorer", "--env", "bandit", "arm=3"], "bandit has no setting 'arm'"),
        (["explorer", *BANDIT, "--tasks", "test"], "must be holdout, train, all"),
        (["."], "is not a run"),
        ([".", "--env", "bandit"], "leave it out"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(args, said, capsys):
    with pytest.raises(SystemExit) as ended:
        score.main([*args, "--cache", "off"])
    (sentence,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and said in sentence and sentence.startswith("error: ")
