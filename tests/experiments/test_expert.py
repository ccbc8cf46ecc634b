"""Tests of labels from a trained oracle: its actions, and its embeddings of training tasks."""

import warnings

import numpy as np
import pytest

from experiments import assembly, command, run
from taskbelief.runs import parts as runs_parts
from tests.experiments import tiny

ORACLE = [*["--env", "bandit", "--agent", "oracle", "--condition", "embedding"]]
PUPIL = ["--env", "bandit", "--agent", "belief"]


def sizes(*without):
    """Flags of a tiny run without those of the label's head, which oracles do not have."""
    pairs = list(zip(tiny.SIZES[::2], tiny.SIZES[1::2], strict=True))
    return [part for pair in pairs if pair[0] not in without for part in pair]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "oracle"
    steps = ["--steps", str(2 * tiny.ITERATION), "--rows", "1"]
    run.main([*ORACLE, *sizes("--agent.head_hidden"), *steps, "--out", str(out)])
    return out


def parts_of(*args):
    chosen, _ = command.parse([*args, "--steps", str(2 * tiny.ITERATION), "--belief_tasks", "0"])
    return chosen, assembly.assemble(chosen)


def test_the_oracle_has_no_score_on_tasks_it_has_no_vector_for(oracle):
    header = (oracle / "metrics.csv").read_text().split("\n")[0]
    assert "eval/train/score" in header
    assert "holdout" not in header


@pytest.mark.parametrize("label", ["task_embedding", "expert_action"])
def test_it_teaches(oracle, label):
    chosen, parts = parts_of(*PUPIL, *sizes(), "--label", label, "--expert", str(oracle))
    state, _ = parts.placed.step(parts.placed.init(parts.placed.seeds), 1)
    rings = np.asarray(state.replay.rows.label.h)[:, : int(state.replay.size)]
    labels = rings.reshape(-1, *rings.shape[2:])  # [rows, T, ...]
    expert = runs_parts._expert(chosen, warnings.warn)
    if label == "task_embedding":
        # every label is a row of the table, the same throughout a meta-episode
        np.testing.assert_array_equal(labels, np.broadcast_to(labels[:, :1], labels.shape))
        distance = np.abs(labels[:, 0, None] - np.asarray(expert.table)).max(axis=-1)
        assert distance.min(axis=1).max() == 0.0
    else:
        assert labels.shape[2:] == (1,) and labels.dtype == np.int32
        assert labels.min() >= 0 and labels.max() < 20


def test_it_must_be_an_oracle_of_this_environment(oracle, capsys):
    wrong = ["--env", "semicircle", "--agent", "belief", "--label", "expert_action"]
    with pytest.raises(SystemExit) as ended:
        parts_of(*wrong, "--expert", str(oracle))
    assert ended.value.code == 2
    assert "another environment" in capsys.readouterr().err
