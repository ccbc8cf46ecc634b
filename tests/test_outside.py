"""Tests of environments from outside the package, and of the package's imports."""

import subprocess
import sys
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest

import taskbelief
from taskbelief import posterior, registry
from taskbelief.envs.bandit import Bandit
from tests.test_problem import Place, Steps

HERE = "tests.test_problem:Steps"


@pytest.fixture
def registered():
    taskbelief.register("steps", Steps)
    yield "steps"
    registry._registered.pop("steps")


def test_a_registered_name_is_a_name_like_others(registered):
    assert taskbelief.make(registered, horizon=3) == Steps(3)
    assert registered in taskbelief.environments()
    assert registry.name_of(Steps()) == registered
    with pytest.raises(ValueError, match=r"no setting 'size': choose from horizon"):
        taskbelief.make(registered, size=3)
    with pytest.raises(ValueError, match="did you mean 'steps'"):
        taskbelief.make("step")


def test_names_that_cannot_be_registered():
    for name in ("bandit", "a:b"):
        with pytest.raises(ValueError, match="a name of its own"):
            taskbelief.register(name, Steps)
    assert taskbelief.make("bandit") == Bandit()


def test_a_class_is_found_by_its_module():
    assert taskbelief.make(HERE, horizon=2) == Steps(2)
    assert registry.name_of(Steps()) == HERE
    for wrong in ("tests.test_problem:Stairs", "tests.no_such:Steps", ":"):
        with pytest.raises(ValueError, match=f"unknown env '{wrong}'"):
            taskbelief.make(wrong)


def test_an_instance_stands_for_itself():
    env = Steps(4)
    assert taskbelief.make(env) is env
    assert taskbelief.make(env, horizon=2) == Steps(2)
    by_name, by_instance = posterior.make("bandit"), posterior.make(Bandit())
    assert jax.tree.all(jax.tree.map(jnp.array_equal, by_name.init(), by_instance.init()))


def test_adapters_take_instances():
    pytest.importorskip("gymnasium")
    from taskbelief.adapters import gymnasium

    made = gymnasium.make(Steps(4))
    assert made.env == Steps(4) and made.name == HERE
    made.reset(seed=0)
    assert [made.step(1)[3] for _ in range(4)] == [False, False, False, True]


# ---- what check_env finds ---------------------------------------------------------


def test_nothing_is_wrong_with_the_smallest_environment():
    taskbelief.check_env(replace(Steps(), low=-2.0), steps=20)


@dataclass(frozen=True)
class Wrong(Steps):
    """`Steps` with one fault."""

    low: float = -2.0
    fault: str = ""

    def sample_task(self, key):
        task = super().sample_task(key)
        return Place(task.x[None]) if self.fault == "tasks" else task

    def task_set(self, split, num=None):
        if self.fault == "overlap":
            split = "train"
        tasks = super().task_set(split, num)
        return Place(jnp.zeros_like(tasks.x)) if self.fault == "twice" else tasks

    def describe(self, task):
        h = super().describe(task)
        return h[0] if self.fault == "describe" else h

    def step(self, key, state, action, task):
        obs, after, reward, over = super().step(key, state, action, task)
        if self.fault == "obs":
            obs = jnp.append(obs, 0.0)
        if self.fault == "state":
            after = after.astype(jnp.int32)
        if self.fault == "reward":
            reward = reward[None]
        if self.fault == "range":
            reward = reward + 3.0
        if self.fault == "over":
            over = ~over
        return obs, after, reward, over


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("tasks", "holds other tasks than sample_task draws"),
        ("overlap", "overlap"),
        ("twice", "has a task twice"),
        ("describe", r"describe is float32 \[\], not float32 \[1\]"),
        ("obs", r"observation of step is float32 \[2\], not float32 \[1\]"),
        ("state", "another kind of state"),
        ("reward", r"the reward is float32 \[1\]"),
        ("range", r"outside spec.reward_range"),
        ("over", "terminates, and the spec says it does not"),
    ],
)
def test_a_broken_promise_is_named(fault, said):
    with pytest.raises(ValueError, match=said) as caught:
        taskbelief.check_env(Wrong(fault=fault), steps=10)
    assert str(caught.value).startswith("Wrong: ")


@dataclass(frozen=True)
class Certain(Bandit):
    """A bandit whose likelihood rules out the true task."""

    def log_likelihood(self, task, carry, obs, action, reward, next_obs):
        return carry, jnp.full((), -jnp.inf)


@dataclass(frozen=True)
class Blind(Bandit):
    """A bandit whose first observation is impossible under every task."""

    def start_log_likelihood(self, task, obs):
        return jnp.full((), -jnp.inf)


def test_a_likelihood_that_rules_out_the_truth():
    with pytest.raises(ValueError, match=r"rules out the true task \(log_likelihood"):
        taskbelief.check_env(Certain(), steps=3)
    with pytest.raises(ValueError, match=r"rules out the true task \(start_log_likelihood"):
        taskbelief.check_env(Blind(), steps=3)


# ---- imports ----------------------------------------------------------------------


def test_environments_and_posteriors_cost_jax_and_numpy_only():
    script = (
        "import sys, jax, numpy, jax.scipy.special\n"
        "before = set(sys.modules)\n"
        "import taskbelief\n"
        "from taskbelief import posterior\n"
        "exact = posterior.make(taskbelief.make('numpad'))\n"
        "exact.entropy(exact.init())\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(tops - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    brought = set(done.stdout.split()) - {
        "jax",
        "jaxlib",
        "numpy",
        "scipy",
        "ml_dtypes",
        "opt_einsum",
    }
    assert brought == {"taskbelief"}
