"""Tests of score cards, with numbers computed by hand."""

from typing import Any

import numpy as np
import pytest

from taskbelief import card
from taskbelief.card import Calibration, Card, Reference
from taskbelief.evaluation import Evaluation, References

REFERENCES = References(random=2.0, expert=10.0, explorer=6.0)
RETURNS = np.array([4.0, 8.0, 9.0, 11.0])  # mean 8: a score of 6 / 8
QUARTERS = np.array([[0.0, 0, 0, 4], [1, 1, 2, 2], [1, 3, 3, 1], [2, 4, 4, 4]])
NAMES: dict[str, Any] = {"policy": "mine", "env": "somewhere", "tasks": "holdout"}


def test_metrics_are_means_over_tasks():
    nll = np.arange(8.0)[:, None] + np.array([-1.0, 0.0, 0.0, 1.0])  # mean over tasks: 0 ... 7
    played = Evaluation(RETURNS, QUARTERS, nll, RETURNS - 2.0)
    found = card.of(played, **NAMES, references=REFERENCES, kl=nll[:, :2]).metrics()
    low, high = found.pop("score_low"), found.pop("score_high")
    assert found == pytest.approx(
        {
            "return": 8.0,
            "return_sampled": 6.0,
            "score_sampled": 0.5,
            "score": 0.75,
            "score_over_explorer": 1.5,  # the explorer's score is 4 / 8
            **{f"return_quarter_{i}": mean for i, mean in enumerate([1.0, 1.5, 2.0, 3.5], 1)},
            "label_nll": 3.5,
            **{f"label_nll_quarter_{i}": mean for i, mean in enumerate([0.5, 2.5, 4.5, 6.5], 1)},
            "belief_kl": 3.0,
            **{f"belief_kl_quarter_{i}": mean for i, mean in enumerate([0.0, 2.0, 4.0, 6.0], 1)},
        }
    )
    assert (2 / 8) < low < 0.75 < high < 9 / 8


def test_without_references_scores_are_returns():
    returns = np.array([1.0, 3.0])
    made = card.of(Evaluation(returns, np.stack([returns / 4] * 4), None, None), **NAMES)
    quarters = {f"return_quarter_{i}": 0.5 for i in (1, 2, 3, 4)}
    assert made.metrics() == {"return": 2.0, **quarters}
    assert made.score == 2.0 and not made.normalised
    assert made.standing == {"mine": 2.0}
    assert made.regret is None
    assert "the return is the score" in str(made)


def beside() -> dict[str, Reference]:
    """Returns references on two tasks of four steps: random earns 0, expert and explorer more."""
    earned = {
        "random": np.zeros((4, 2)),
        "expert": np.array([[1.0, 1], [2, 2], [2, 2], [3, 3]]),
        "explorer": np.array([[0.0, 0], [0, 2], [2, 2], [2, 2]]),
    }
    return {name: Reference(rewards.sum(axis=0), rewards) for name, rewards in earned.items()}


def played(episodes=1, **more) -> Card:
    rewards = np.array([[0.0, 2], [1, 1], [2, 0], [3, 1]])  # returns 6 and 4, the expert's 8
    others = beside()
    ends = References(0.0, 8.0, 5.0)
    return Card(
        **NAMES,
        returns=rewards.sum(axis=0),
        quarters=rewards,
        rewards=rewards,
        references=ends,
        beside=others,
        episodes=episodes,
        **more,
    )


def test_regret_is_what_the_expert_earned_more_so_far():
    np.testing.assert_allclose(played().regret, [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(played().regret_of("explorer"), [1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(played().regret_of("expert"), np.zeros(4))


def test_where_a_policy_stands():
    assert list(played().standing.items()) == [
        ("random", 0.0), ("explorer", 0.625), ("mine", 0.625), ("expert", 1.0),
    ]  # fmt: skip


def test_parts_are_normalised_each_by_its_own_ends():
    quarters = played()
    assert quarters.part == "quarter"
    assert [part.value for part in quarters.part_scores] == [1.0, 0.5, 0.5, 2 / 3]
    np.testing.assert_array_equal(quarters.part_returns, quarters.quarters)
    episodes = played(episodes=2)
    assert episodes.part == "episode"
    np.testing.assert_array_equal(episodes.part_returns, [[1, 3], [5, 1]])
    assert [part.value for part in episodes.part_scores] == [2 / 3, 3 / 5]
    for part in episodes.part_scores:
        assert part.low <= part.value <= part.high and part.high > part.low


def test_the_interval_is_the_bootstrap_of_the_mean_over_tasks():
    """For 1,000 returns of 0 and 1,000 of 8: 1.96 standard errors to each side of the score 1/2."""
    returns = np.repeat([0.0, 8.0], 1000)
    made = Card(
        **NAMES, returns=returns, quarters=np.zeros((4, 2000)), references=References(0, 8, None)
    )
    error = 1.96 * 0.5 / np.sqrt(2000)
    np.testing.assert_allclose(made.interval, [0.5 - error, 0.5 + error], atol=0.003)


def test_the_error_of_calibration_counts_each_statement_once():
    found = Calibration(np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.9, 0.9]), np.array([3, 0, 1]))
    assert found.error == pytest.approx(0.075)  # 0.1 three times, 0 once; no statement of 0.5


def test_what_is_printed():
    nll = np.full((4, 2), 1.5)
    right = Calibration(np.array([0.25]), np.array([0.5]), np.array([4]))
    lines = str(played(label_nll=nll, kl=nll / 2, calibration=right)).splitlines()
    assert lines[0] == "mine on somewhere, 2 hold-out tasks"
    assert lines[2].startswith("score      0.625  [0.500, 0.750]")
    assert lines[3].startswith("return     5.000  [4.000, 6.000]")
    table = {line[2:32].split()[0]: line.split()[-2:] for line in lines[6:10]}
    assert table == {
        "random": ["0.000", "0.000"],
        "explorer": ["5.000", "0.625"],
        "mine": ["5.000", "0.625"],
        "expert": ["8.000", "1.000"],
    }
    assert next(line for line in lines if line.startswith(">")).split()[1] == "mine"
    assert "NLL of the label" in str(lines) and "calibration error 0.250" in str(lines)
    kl = next(line for line in lines if line.startswith("KL"))
    assert kl.split()[3:] == ["0.750"] * 4
