"""Tests of invalid settings: refused at construction, with field, value and allowed values."""

import numpy as np
import pytest

import taskbelief

BAD = [
    ("bandit", "arms", 1),
    ("bandit", "horizon", 0),
    ("semicircle", "target_radius", 1.5),
    ("semicircle", "action_repeat", 0),
    ("semicircle", "episodes", 0),
    ("noisy_target", "radius", -1.0),
    ("noisy_target", "friction", 0.0),
    ("noisy_target", "arena", 0.5),
    ("numpad", "length", 10),
    ("numpad", "neighbours", 6),
    ("numpad", "horizon", 0),
    ("numpad", "train_tasks", 496),
    ("numpad", "pad_half_width", 0.6),
    ("numpad", "cue_share", 0.5),
    ("numpad", "cues", "all"),
    ("numpad", "mercy_share", 2.0),
    ("sparse_navigation", "episodes", 0),
    ("sparse_navigation", "goal_radius", 0.0),
    ("cheetah_velocity", "backend", "bullet"),
    ("cheetah_velocity", "horizon", 0),
    ("cheetah_velocity", "episodes", 0),
    ("cheetah_velocity", "fastest", 0.1),
]


@pytest.mark.parametrize(("name", "field", "value"), BAD)
def test_a_setting_that_makes_no_sense(name, field, value):
    with pytest.raises(ValueError, match=field) as caught:
        taskbelief.make(name, **{field: value})
    assert repr(value) in str(caught.value) and "must be" in str(caught.value)


def test_every_horizon_and_set_size_is_at_least_one():
    for name in taskbelief.environments():
        for field in ("horizon", "episode_steps", "train_tasks", "holdout_tasks"):
            if hasattr(taskbelief.make(name), field):
                with pytest.raises(ValueError, match=field):
                    taskbelief.make(name, **{field: 0})


def test_unknown_names_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match="did you mean 'numpad'"):
        taskbelief.make("numpat")
    with pytest.raises(ValueError, match=r"no setting 'sizes'.*size"):
        taskbelief.make("numpad", sizes=4)


@pytest.mark.parametrize(
    ("name", "field", "value", "allowed"),
    [
        ("bandit", "arms", "5", "a whole number"),
        ("bandit", "arms", 2.5, "a whole number"),
        ("bandit", "arms", True, "a whole number"),
        ("bandit", "horizon", None, "a whole number"),
        ("bandit", "train_tasks", [3], "a whole number"),
        ("semicircle", "target_radius", "0.2", "a number"),
        ("noisy_target", "force", None, "a number"),
        ("sparse_navigation", "episodes", 2.0, "a whole number"),
        ("cheetah_velocity", "slowest", "1", "a number"),
        ("cheetah_velocity", "backend", 3, "a string"),
        ("numpad", "jump", 1, "True or False"),
        ("numpad", "cues", 3, "a string"),
        ("numpad", "size", "3", "a whole number"),
    ],
)
def test_a_setting_of_the_wrong_type(name, field, value, allowed):
    with pytest.raises(ValueError) as error:
        taskbelief.make(name, **{field: value})
    assert str(error.value) == f"{field}={value!r}: must be {allowed}"


def test_numbers_of_numpy_will_do():
    made = taskbelief.make("bandit", arms=np.int64(5))
    assert made == taskbelief.make("bandit", arms=5) and hash(made) == hash(
        taskbelief.make("bandit", arms=5)
    )
    assert taskbelief.make("semicircle", max_speed=2) == taskbelief.make(
        "semicircle", max_speed=np.float64(2.0)
    )
