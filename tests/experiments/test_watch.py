"""Tests of films: they show the agent's own beliefs and the exact posterior."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from experiments import watch
from taskbelief import api, render
from taskbelief.runs import parts
from taskbelief.types import Categories, Probabilities, Reals
from tests.test_problem import Steps
from tests.wiring import SMALL

KEY = jax.random.key(3)
WIDE, NARROW = 1080, 720  # pixels: with three columns, with two


def agent_of(env, agent, label=None, **settings):
    """Returns an untrained agent in the form of `taskbelief.load`."""
    sizes = {"hidden": 4, "encoder": 4, "actor_hidden": 4, "critic_hidden": 4}
    chosen = api.configure(env, agent, "svg0", label=label, **sizes, **settings)
    made = parts.build(chosen).trainer
    return api.Trained(chosen, made, made.learner.init(jax.random.key(0)).params)


def watched(trained):
    """Compares the filmed meta-episode with the same one from `rollout`; returns both."""
    tasks = trained.env.task_set("holdout", 1)
    found = watch.play_agent(trained, jax.tree.map(lambda leaf: leaf[0], tasks), KEY)
    played = trained.rollout(tasks, jax.random.split(KEY)[0])
    np.testing.assert_allclose(found.actions, played.action[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.rewards, played.reward[:, 0], atol=1e-5)
    jax.tree.map(
        lambda film, state: np.testing.assert_allclose(film[:-1], state[:, 0], atol=1e-5),
        found.states,
        played.state,
    )
    np.testing.assert_allclose(found.views.learned.mean[:-1], played.belief[:, 0], atol=1e-5)
    return found, played


@pytest.mark.parametrize(
    ("label", "tolerance"), [("posterior_goal", 0.03), ("expert_action", 0.08)]
)
def test_the_best_of_three_arms(label, tolerance):
    """Its probability is compared with draws from the Beta distributions. The film counts an
    expert's action among draws of its own."""
    found, played = watched(agent_of("bandit", "belief", label, **SMALL["bandit"]))
    assert (played.posterior is None) == (label == "expert_action")
    assert found.views.spec == Categories(1, 3)
    best = np.argmax(found.task.probabilities)
    np.testing.assert_array_equal(found.views.truth, np.full((9, 1), best))
    rng = np.random.default_rng(0)
    wins, losses = found.beliefs.wins, found.beliefs.losses  # [T + 1, arms]
    assert wins[-1].sum() + losses[-1].sum() == 8
    draws = rng.beta(1 + wins, 1 + losses, size=(4000, 9, 3))
    shares = np.stack([(draws.argmax(-1) == arm).mean(axis=0) for arm in range(3)], axis=-1)
    np.testing.assert_allclose(found.views.exact.mean[:, 0], shares, atol=tolerance)
    assert found.views.exact.mean[-1, 0].max() > 0.45  # they differ from the prior


def test_numbers_are_weighed_over_the_hypotheses():
    """Under a normal belief, the hypothesis with the angle nearest to the mean is most probable."""
    found, played = watched(agent_of("semicircle", "belief", "description", **SMALL["semicircle"]))
    probs, angles = np.exp(found.views.learned.log_probs), found.labels[:, 0]
    assert probs.shape == (9, len(angles))
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-4)
    means = found.views.learned.mean[:, 0]
    gap = np.diff(angles).mean()
    np.testing.assert_allclose(angles[probs.argmax(axis=1)], means, atol=0.6 * gap)
    # a normal's log density is a parabola
    logs, third = found.views.learned.log_probs, len(angles) // 3
    bends = [logs[:, third] - 2 * logs[:, 2 * third] + logs[:, 3 * third]]
    bends += [logs[:, 0] - 2 * logs[:, third] + logs[:, 2 * third]]
    np.testing.assert_allclose(bends[0], bends[1], rtol=1e-2)
    assert np.all(bends[0] < 0)
    exact = np.exp(found.beliefs.log_probs) @ angles
    np.testing.assert_allclose(exact[:-1], played.posterior[:, 0, 0], atol=0.02)  # on another grid
    np.testing.assert_allclose(found.views.truth[:, 0], found.task.angle, rtol=1e-6)


def test_the_central_part_of_a_belief():
    """Quantiles of a normal and of a Beta distribution, at two steps each."""
    mean = jnp.array([[1.0, -2.0], [0.5, -1.0]])
    spec = Reals(2, (0.0, -1.0), (1.0, 2.0))
    normal = lambda h: -0.5 * jnp.sum(jnp.square((h - mean) / 0.5), axis=-1)  # noqa: E731
    low, high = watch._interval(normal, mean, spec)
    np.testing.assert_allclose(low, mean - 1.645 * 0.5, atol=0.1)
    np.testing.assert_allclose(high, mean + 1.645 * 0.5, atol=0.1)
    a = jnp.array([[2.0], [5.0]])
    beta = lambda h: jnp.sum((a - 1) * jnp.log(h) + 2.0 * jnp.log(1 - h), axis=-1)  # noqa: E731
    low, high = watch._interval(beta, a / (a + 3), Probabilities(1))
    expected = scipy.stats.beta(np.asarray(a), 3)
    np.testing.assert_allclose(low, expected.ppf(0.05), atol=0.01)
    np.testing.assert_allclose(high, expected.ppf(0.95), atol=0.01)


def film(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["watch", *map(str, arguments)])
    watch.main()


def test_a_saved_agent_is_filmed(tmp_path, monkeypatch, capsys):
    """The film shows the learned and the exact belief about the next pad; it is saved in the
    agent's folder."""
    trained = agent_of("numpad", "aux_head", "expert_goal", **SMALL["numpad"])
    found, played = watched(trained)
    np.testing.assert_allclose(found.views.exact.mean[:-1], played.posterior[:, 0], atol=1e-5)
    assert found.views.truth[0, 0] == found.task.sequence[0]
    pictures = {
        name: render.still(*found._replace(views=views), step=4)
        for name, views in {
            "as it is": found.views,
            "another belief": found.views._replace(learned=found.views.exact),
            "none": None,
        }.items()
    }
    assert pictures["as it is"].shape[1] == WIDE and pictures["none"].shape[1] == NARROW
    differs = np.any(pictures["as it is"] != pictures["another belief"], axis=(0, 2))
    assert differs[WIDE // 3 : 2 * WIDE // 3].any()  # the middle column is the learned belief
    trained.save(tmp_path / "agent")
    film(monkeypatch, tmp_path / "agent", "--every", 4)
    assert f"film.gif: 3 frames, return {found.rewards.sum():.2f}" in capsys.readouterr().out
    with Image.open(tmp_path / "agent" / "film.gif") as image:
        assert image.width == WIDE and image.n_frames == 3


def test_without_a_posterior_the_belief_is_alone(tmp_path, monkeypatch):
    """An external environment without likelihood or scene."""
    trained = agent_of(Steps(), "belief", "description")
    found, _ = watched(trained)
    assert found.beliefs is None and found.labels is None and found.views.exact is None
    low, mean, high = (getattr(found.views.learned, name) for name in ("low", "mean", "high"))
    assert np.all(low < mean) and np.all(mean < high)
    trained.save(tmp_path / "agent")
    film(monkeypatch, tmp_path / "agent", "--step", 2, "--out", tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as image:
        assert image.width == NARROW
    film(
        monkeypatch,
        "--env",
        "tests.test_problem:Steps",
        "--policy",
        "random",
        "--out",
        tmp_path / "a.png",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name either a RUN or an --env"),
        (["runs/none", "--env", "bandit"], "name either a RUN or an --env"),
        (["runs/none"], "runs/none is not a run"),
        (["--env", "bandit", "--task", "1000", "--out", "a.gif"], "--task 1000: must be from 0 to"),
        (["--env", "bandi", "--out", "a.gif"], "did you mean 'bandit'"),
    ],
)
def test_refuses(monkeypatch, capsys, arguments, said):
    with pytest.raises(SystemExit):
        film(monkeypatch, *arguments)
    assert said in capsys.readouterr().err
