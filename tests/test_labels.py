"""Contract tests of all labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import problem, registry, rollout
from taskbelief.types import Categories
from tests.test_matrix import embedder
from tests.wiring import SMALL

LABELS = registry.names("labels")
ENVS = ("bandit", "numpad", "semicircle")


def posed(env_name, label):
    env = taskbelief.make(env_name, **SMALL[env_name])
    return problem.make(env, label, embedder(env) if label == "task_embedding" else None)


@pytest.mark.parametrize("env_name", ENVS)
@pytest.mark.parametrize("label", LABELS)
def test_teacher_and_examiner_keep_to_the_family(label, env_name):
    made = posed(env_name, label)
    tasks = made.env.task_set("train", 2)

    def play(teacher):
        def act(carry, inputs, key):
            return carry, made.spec.action.none(2), jnp.zeros(2)

        return rollout.collect(made.env, tasks, jax.random.key(0), act, (), teacher).label.h

    family = made.label.spec
    categories = isinstance(family, Categories)
    num = family.places if categories else family.num
    for teacher in (made.label.teacher, made.label.examiner):
        h = jax.eval_shape(lambda teacher=teacher: play(teacher))
        assert h.shape == (made.spec.task_steps, 2, num)
        assert h.dtype == (jnp.int32 if categories else jnp.float32)
    if made.label.momentary is not None and label != "task_embedding":
        revealed = made.revealed()
        task = made.env.sample_task(jax.random.key(1))
        obs, _ = jax.eval_shape(revealed.env.reset, jax.random.key(0), task)
        assert obs.shape == (revealed.spec.obs_dim,)
        assert revealed.spec.obs_dim > made.spec.obs_dim


@pytest.mark.parametrize(
    ("env_name", "comparable"),
    [
        ("bandit", {"description", "expert_goal", "posterior_goal"}),
        ("numpad", {"description", "expert_goal", "posterior_goal"}),
        ("semicircle", {"description", "expert_goal", "posterior_goal"}),
    ],
)
def test_which_labels_have_an_exact_counterpart(env_name, comparable):
    found = {name for name in LABELS if posed(env_name, name).label.exact is not None}
    assert found == comparable


def test_which_labels_name_training_tasks():
    named = {name for name in LABELS if posed("bandit", name).label.names_training_task}
    assert named == {"task_index", "task_embedding"}
    made = posed("bandit", "task_index")
    tasks = made.env.task_set("train")
    say = made.label.momentary
    told = jax.vmap(lambda task: say(jax.random.key(0), None, None, task))(tasks)
    np.testing.assert_array_equal(told[:, 0], np.arange(rollout.batch_size(tasks)))


def test_a_goal_is_of_what_is_seen():
    """The goal is the next pad: with two lit, the third of the sequence."""
    made = posed("numpad", "expert_goal")
    task = made.env.task_set("train", 1)._replace(sequence=jnp.array([4, 5, 2, 1]))
    for lit, pad in ((0, 4), (2, 2)):
        obs = jnp.zeros(made.spec.obs_dim).at[4 + 9 + lit].set(1.0)
        assert made.label.momentary(jax.random.key(0), obs, None, task).tolist() == [pad]
