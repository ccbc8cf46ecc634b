"""Tests of pictures of every environment, and of films and stills."""

import sys
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

import taskbelief
from experiments import references, watch
from taskbelief import registry, render, rollout
from taskbelief.envs import bandit, noisy_target, numpad, semicircle, sparse_navigation
from taskbelief.posterior import Counts, Weights
from taskbelief.render import _beliefs, _parts, cheetah_velocity
from taskbelief.types import Categories
from tests.test_problem import Steps

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


def test_cheetah_has_a_scene_and_its_body_is_in_one_piece():
    env: Any = taskbelief.make("cheetah_velocity")
    _, state = jax.jit(env.reset)(jax.random.key(0), None)
    pose = jax.tree.map(np.asarray, state.body.pipeline_state)
    ends, radii = cheetah_velocity.outline(env.backend, pose)
    assert ends.shape == (8, 2, 3) and radii.shape == (8,)
    near = np.linalg.norm(ends.reshape(-1, 1, 3) - ends.reshape(1, -1, 3), axis=-1)
    assert np.all((near < 0.15).sum(-1) >= 1) and near.max() < 2.0
    assert ends[..., 2].min() > -0.15  # on the ground, not under it


def test_every_environment_has_a_scene():
    assert set(registry.names("render")) == set(registry.names("envs"))


class Drawn(Steps):
    """An environment from elsewhere that draws itself: a red stripe, a tenth for each state."""

    def draw(self, axes, task, states):
        assert isinstance(states, np.ndarray) and isinstance(task.x, np.ndarray)
        axes.set_ylim(0, 1)
        axes.axhspan(0, len(states) / 10, color="#ff0000", linewidth=0)


def test_an_environment_from_elsewhere_draws_itself():
    """Without `draw` its name takes the place."""
    task = Steps().sample_task(jax.random.key(0))

    def height(env, steps):
        pixels = render.picture(env, task, np.zeros(steps + 1), np.zeros(steps))
        return int(np.sum(np.all(pixels == (255, 0, 0), axis=-1).any(axis=1)))

    assert height(Drawn(), 2) > 50
    assert height(Drawn(), 5) == pytest.approx(2 * height(Drawn(), 2), abs=2)
    assert height(Steps(), 5) == 0


def drawn(env, belief, labels, task, draw=_beliefs.draw_posterior):
    """Axes of a posterior's picture; by family if nothing else is said."""
    figure = Figure()
    panel = _parts.Panel(figure, figure.add_gridspec(1, 1)[0, 0], "exact posterior")
    task, belief = jax.tree.map(np.asarray, (task, belief))
    draw(panel, env, task, belief, np.asarray(labels))
    return figure.axes


def scene(env, task, states, rewards, actions=None):
    """Axes of an environment's picture."""
    axes = Figure().add_subplot()
    render.scene_of(env).draw(axes, env, task, render.History(states, actions, np.array(rewards)))
    return axes


def test_a_posterior_over_one_number_is_a_density():
    """The hypotheses may have any order."""
    env = taskbelief.make("semicircle")
    belief = Weights(np.log([0.2, 0.3, 0.5]), ())
    (axes,) = drawn(env, belief, [[0.5], [1.5], [1.0]], semicircle.Task(1.2))
    outline = axes.collections[0].get_paths()[0].vertices
    heights, top = outline[:, 1], outline[np.isclose(outline[:, 1], 1.0), 0]
    assert (top.min(), top.max()) == pytest.approx((0.75, 1.25))  # half-way to its neighbours
    assert set(np.round(heights, 6)) == {0.0, 0.4, 0.6, 1.0}
    assert axes.lines[0].get_xdata()[0] == pytest.approx(1.2)
    # exp(-(0.2 log 0.2 + 0.5 log 0.5 + 0.3 log 0.3)) = 2.8
    assert axes.get_title(loc="left") == "exact posterior, as good as 3 equal hypotheses of 3"


def test_a_posterior_over_several_numbers_is_drawn_by_mean_and_central_part():
    """Ten hypotheses: 90 % of the mass lies from the first to the ninth of the first number, and
    from the second to the last of the second one, whose order is reversed."""
    env = taskbelief.make("noisy_target")
    mass = np.array([0.06, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.04])
    labels = np.stack([np.arange(10.0), -np.arange(10.0)], axis=-1)
    (axes,) = drawn(
        env, Weights(np.log(mass), ()), labels, noisy_target.Task(np.array([3.0, -4.0]))
    )
    mean, truth = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(mean, [mass @ labels[:, 0], mass @ labels[:, 1]])
    np.testing.assert_allclose(truth, [3.0, -4.0])
    ends = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches]
    np.testing.assert_allclose(ends, [(0.0, 8.0), (-8.0, 0.0)])


def test_a_posterior_over_categories_is_drawn_place_by_place():
    env = taskbelief.make("numpad")
    labels = [[0, 1], [0, 3], [4, 3]]
    task = numpad.Task(np.array([0, 3]))
    first, second = drawn(env, Weights(np.log([0.5, 0.2, 0.3]), ()), labels, task)
    bars = [[bar.get_height() for bar in axes.patches] for axes in (first, second)]
    np.testing.assert_allclose(bars[0], [0.7, 0, 0, 0, 0.3, 0, 0, 0, 0])
    np.testing.assert_allclose(bars[1], [0, 0.5, 0, 0.5, 0, 0, 0, 0, 0])
    assert [axes.lines[0].get_xdata()[0] for axes in (first, second)] == [0, 3]


def test_a_posterior_over_arms_is_drawn_by_its_beta_distributions():
    """Beta(2, 1) has the mean 2 / 3 and the quantiles sqrt(share)."""
    env = taskbelief.make("bandit", arms=2)
    task = bandit.Task(np.array([0.4, 0.6]))
    (axes,) = drawn(env, Counts(np.array([1.0, 0.0]), np.zeros(2)), np.zeros((1, 2)), task)
    assert axes.lines[0].get_ydata()[0] == pytest.approx(2 / 3)
    bar = axes.patches[0]
    assert bar.get_y() == pytest.approx(np.sqrt(0.05))
    assert bar.get_y() + bar.get_height() == pytest.approx(np.sqrt(0.95))


def test_pulls_are_drawn_by_arm():
    """Arm 2 won one of two pulls, arm 0 its only one; the last pull lost."""
    env = taskbelief.make("bandit", arms=3)
    task = bandit.Task(np.array([0.4, 0.6, 0.7]))
    axes = scene(env, task, np.zeros(4), [1, 1, 0], np.array([2, 0, 2]))
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [0.4, 0.6, 0.7, 1.0, 0.0, 0.5])
    assert [(text.get_position()[0], text.get_text()) for text in axes.texts] == [
        (0, "1"),
        (2, "2"),
    ]
    assert axes.lines[0].get_xdata()[0] == 2 and axes.lines[0].get_color() == _parts.INK


def test_a_path_has_gaps_where_the_state_was_reset():
    """Of three moves the second is a jump back to the origin. The target is lit after a reward."""
    env = taskbelief.make("semicircle")
    states = semicircle.State(
        np.array([[0.0, 0.9], [0.0, 1.0], [0.0, 0.0], [0.1, 0.0]]), np.array([0, 0, 0, np.pi / 2])
    )
    for rewards, colour in (([0, 1, 0], "none"), ([0, 0, 1], _parts.LIT)):
        axes = scene(env, semicircle.Task(np.pi / 2), states, rewards)
        pieces = axes.collections[0].get_segments()
        np.testing.assert_allclose(pieces, [[[0, 0.9], [0, 1]], [[0, 0], [0.1, 0]]])
        (target,) = axes.patches
        np.testing.assert_allclose((*target.center, target.radius), (0, 1, 0.2), atol=1e-9)
        assert to_rgba(target.get_facecolor()) == to_rgba(colour)
        heading = axes.lines[-1]
        np.testing.assert_allclose(heading.get_xydata(), [[0.1, 0], [0.1, 0.14]], atol=1e-9)


def test_places_of_rewards_are_marked():
    """A reward belongs to the place that the step led to."""
    env = taskbelief.make("noisy_target")
    places = np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 0.1], [0.3, 0.2]])
    states = noisy_target.State(places, np.zeros_like(places))
    axes = scene(env, noisy_target.Task(np.array([0.0, 1.0])), states, [1, 0, 1])
    np.testing.assert_allclose(axes.lines[-1].get_xydata(), [[0.1, 0.0], [0.3, 0.2]])


@pytest.mark.parametrize("name", ["semicircle", "noisy_target", "sparse_navigation"])
def test_the_ridge_is_as_high_as_a_place_is_probable(name):
    angles = np.array([0.5, 1.0, 2.0])
    places = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    task = {
        "semicircle": semicircle.Task(np.array(1.2)),
        "noisy_target": noisy_target.Task(np.array([np.cos(1.2), np.sin(1.2)])),
        "sparse_navigation": sparse_navigation.Task(np.array([np.cos(1.2), np.sin(1.2)])),
    }[name]
    env = taskbelief.make(name)
    labels = angles[:, None] if name == "semicircle" else places
    mass = np.array([0.25, 0.5, 0.25])
    draw = render.scene_of(env).draw_posterior
    (axes,) = drawn(env, Weights(np.log(mass), ()), labels, task, draw)
    outline = axes.patches[0].get_xy()[:3]
    np.testing.assert_allclose(outline, places * [[1.25], [1.5], [1.25]])
    ray, mean = axes.lines[1].get_xydata(), axes.lines[2].get_xydata()[0]
    np.testing.assert_allclose(np.arctan2(ray[:, 1], ray[:, 0]), 1.2, rtol=1e-6)
    np.testing.assert_allclose(mean, mass @ places)


def test_beliefs_about_pads_are_floors():
    """One floor for each press, with the true pad framed; labels of other classes are bars."""
    env = taskbelief.make("numpad", length=2, train_tasks=20)
    draw = render.scene_of(env).draw_posterior
    belief, task = Weights(np.log([0.75, 0.25]), ()), numpad.Task(np.array([0, 1]))
    first, second = drawn(env, belief, [[0, 1], [4, 1]], task, draw)
    expected = np.zeros((2, 3, 3))
    expected[0, 0, 0], expected[0, 1, 1], expected[1, 0, 1] = 0.75, 0.25, 1.0
    for axes, floor, left in ((first, expected[0], -1.5), (second, expected[1], -0.5)):
        np.testing.assert_allclose(axes.images[0].get_array(), floor)
        frame = axes.lines[0].get_xydata()
        assert frame.min(axis=0).tolist() == [left, -1.5]
        assert frame.max(axis=0).tolist() == [left + 1, -0.5]
    spec = Categories(1, 4)
    views = render.Views("task_index", spec, render.LabelBelief(np.full((1, 4), 0.25)))
    figure = Figure()
    panel = _parts.Panel(figure, figure.add_gridspec(1, 1)[0, 0], "learned belief")
    render.scene_of(env).draw_classes(panel, env, views.learned.mean, views)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.25] * 4


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
