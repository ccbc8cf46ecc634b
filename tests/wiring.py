"""Construction of the library's parts for tests: real agents at small sizes, labels, runs, and a
toy agent whose features are its observations, so that losses can be computed by hand.

Tests of behaviour call these functions, so that a change in how parts are combined requires a
change here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import taskbelief
from experiments import assembly, command
from taskbelief import exam, labels, problem, registry, rollout
from taskbelief.evaluation import Evaluation, References
from taskbelief.labels import Expert
from taskbelief.learners import ppo, svg0
from taskbelief.networks import heads
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Continuous,
    Discrete,
    Env,
    EnvSpec,
    Features,
    Label,
    LabelSpec,
    Reals,
    Teacher,
    Trajectory,
)

# ---- real agents in real environments ---------------------------------------------

# small instances: what is tested does not depend on size
SMALL = {
    "bandit": {"arms": 3, "horizon": 8},
    "cheetah_velocity": {"horizon": 8},
    "noisy_target": {"horizon": 8},
    "numpad": {"horizon": 8},
    "semicircle": {"horizon": 8},
    "sparse_navigation": {"episode_steps": 4, "episodes": 2, "test_episodes": 2},
}
ENVS = ("bandit", "numpad", "semicircle")
BATCH = 3


def make_agent(name: str, posed: Problem, **settings) -> Agent:
    """Returns the agent `name` with networks of 8 units; ignores `settings` that it lacks."""
    module = registry.find("agents", name)
    sizes = {"hidden": 8, "encoder": 8, "hypotheses": 16, **settings}
    fields = {field.name for field in dataclasses.fields(module.Config)}
    return module.make(posed, module.Config(**{n: v for n, v in sizes.items() if n in fields}))


def small(
    env_name,
    agent_name,
    core="lstm",
    label="description",
    learner=svg0,
    env=None,
    wrap=lambda env: env,
    **settings,
):
    """Returns (environment as the agent observes it, agent, learner, teacher) with networks of 8
    units. `env`: settings of the environment; `wrap`: a function to apply to it."""
    made = wrap(taskbelief.make(env_name, **SMALL[env_name] | (env or {})))
    posed = problem.make(made, label)
    agent = make_agent(agent_name, posed, core=core, **settings)
    sizes = learner.Config(actor_hidden=8, critic_hidden=8)
    if learner is ppo:
        sizes = dataclasses.replace(sizes, minibatches=BATCH)
    made = learner.make(posed, agent, sizes, 10)
    teach = posed.teacher(labels=True, task=sizes.needs.privileged)
    return posed.seen(agent.needs).env, agent, made, teach


def play(env, agent, learner, teach, seed=0):
    """Returns (params, a trajectory on BATCH tasks drawn from p(w))."""
    init_key, task_key, play_key = jax.random.split(jax.random.key(seed), 3)
    params = learner.init(init_key).params
    tasks = jax.vmap(env.sample_task)(jax.random.split(task_key, BATCH))
    return params, rollout.collect(
        env,
        tasks,
        play_key,
        lambda carry, inputs, key: learner.act(params, carry, inputs, key),
        agent.initial_carry(BATCH),
        teach,
    )


# ---- labels -----------------------------------------------------------------------


class Oracle(NamedTuple):
    """A trained oracle that provides labels."""

    initial_carry: Any  # of one meta-episode
    act: (
        Callable | None
    )  # (carry, inputs [1, 1, ...] that end with the label) -> (carry, action, _)
    told: str  # the kind of label that it observes
    table: Any = None  # [K, D]: its embeddings of the training tasks


def teacher(env: Env, kind: str, oracle: Oracle | None = None) -> tuple[LabelSpec, Teacher]:
    """Returns the family of labels of this kind, and the teacher that produces them in training."""
    label = problem.make(env, kind, oracle and _expert(env, oracle)).label
    return label.spec, label.teacher


def examiner(env: Env, kind: str) -> Teacher:
    """Returns the teacher whose labels evaluate a belief that was trained on `kind`."""
    return problem.make(env, kind).label.examiner


def revealed(env: Env, kind: str) -> Env:
    """Returns the environment as an oracle with labels of this kind observes it."""
    return problem.make(env, kind).revealed().env


def dense(env: Env, teach: Teacher | None) -> Teacher:
    """Returns `teach`, or a teacher without labels, with the environment's dense reward."""
    silent = problem.make(env, dense=True).teacher(labels=False)
    assert silent is not None
    return silent if teach is None else teach._replace(reward=silent.reward)


def _expert(env: Env, oracle: Oracle) -> Expert:
    def act(carry, key, inputs, state, task):
        told = problem.make(env, oracle.told)
        inputs = inputs._replace(obs=told.reveal(key, inputs.obs, state, task))
        timed = jax.tree.map(lambda leaf: leaf[None, None], inputs)
        carry, action, _ = oracle.act(carry, timed)
        return carry, action[0]

    return Expert(oracle.initial_carry, act, oracle.table)


def moment(env: Env, obs, **fields) -> AgentInput:
    """Returns an agent's input at one step, unbatched: `obs`, `fields`, and zeros elsewhere."""
    seen = {
        "obs": obs,
        "prev_action": env.spec.action.none(1)[0],
        "prev_reward": jnp.zeros(()),
        "episode_start": jnp.zeros((), bool),
        "task_start": jnp.zeros((), bool),
        "elapsed": jnp.zeros((), jnp.int32),
    }
    return AgentInput(**seen | fields)


# ---- runs -------------------------------------------------------------------------


def assemble(*flags: str) -> assembly.Assembly:
    """Returns the parts of the run with these flags."""
    return assembly.assemble(command.parse(flags)[0])


def seen(parts: assembly.Assembly) -> problem.Problem:
    """Returns the problem that the agent of these parts observes."""
    return parts.trainer.problem.seen(parts.trainer.agent.needs)


def scores(
    parts, references: dict[str, References | None], returns, label_nll=None
) -> dict[str, float]:
    """Returns the metrics of an evaluation with these returns, [K]: a quarter of each in each
    quarter of the meta-episode, and the same with sampled actions. `label_nll`: [T, K]."""
    returns = np.asarray(returns, float)
    found = Evaluation(returns, np.stack([returns / 4] * 4), label_nll, returns)
    return exam.scores(parts.trainer, parts.exam, references, (found, None))


# ---- histories of no environment --------------------------------------------------

REAL = Reals(1, (0.5,), (2.0,))  # a label of one number


def spec_of(action=Continuous(2), label=REAL, obs_dim=3, steps=4, episodes=1) -> EnvSpec:
    return EnvSpec(
        obs_dim=obs_dim, action=action, task=label, episode_steps=steps, episodes_per_task=episodes
    )


def random_inputs(spec: EnvSpec, steps: int, batch: int = BATCH, seed: int = 0) -> AgentInput:
    """Returns random inputs of `batch` meta-episodes, [steps, batch, ...]; only the first input is
    a task start, and an episode starts every `spec.episode_steps` steps."""
    rng = np.random.default_rng(seed)
    if isinstance(spec.action, Discrete):
        action = jnp.asarray(rng.integers(spec.action.num, size=(steps, batch)), jnp.int32)
    else:
        action = jnp.asarray(rng.uniform(-1, 1, (steps, batch, spec.action.num)), jnp.float32)
    at = np.arange(steps)[:, None] * np.ones((1, batch), int)
    return AgentInput(
        jnp.asarray(rng.normal(size=(steps, batch, spec.obs_dim)), jnp.float32),
        action,
        jnp.asarray(rng.normal(size=(steps, batch)), jnp.float32),
        jnp.asarray(at % spec.episode_steps == 0),
        jnp.asarray(at == 0),
        jnp.asarray(at % spec.episode_steps, jnp.int32),
    )


def batch_of(obs, action, log_prob, reward, terminated=None, h=0.0, dense=None) -> Trajectory:
    """Returns the trajectory with these entries: obs [T + 1, B, D], the others [T, B, ...].

    Before the last step, episodes end by termination only; the task ends at the last step.
    """
    steps, batch = np.shape(reward)
    action = jnp.asarray(action)
    reward = jnp.asarray(reward, jnp.float32)
    none = jnp.zeros((1, batch), bool)
    terminated = jnp.zeros((steps, batch), bool) if terminated is None else jnp.array(terminated)
    task_end = jnp.zeros((steps, batch), bool).at[-1].set(True)
    first = none.at[:].set(True)
    return Trajectory(
        AgentInput(
            jnp.asarray(obs, jnp.float32),
            jnp.concatenate([jnp.zeros_like(action[:1]), action]),
            jnp.concatenate([jnp.zeros((1, batch)), reward]),
            jnp.concatenate([first, terminated[:-1], none]),
            jnp.concatenate([first, jnp.zeros((steps, batch), bool)]),
            jnp.zeros((steps + 1, batch), jnp.int32),
        ),
        action,
        jnp.asarray(log_prob, jnp.float32),
        reward,
        terminated,
        terminated | task_end,
        task_end,
        Label(
            jnp.broadcast_to(jnp.asarray(h, jnp.float32), (steps, batch))[..., None],
            None if dense is None else jnp.asarray(dense, jnp.float32),
        ),
    )


def toy(
    actor: Callable = lambda weight, obs: obs,
    critic: Callable = lambda weight, obs: jnp.concatenate([obs, obs[..., :1]], axis=-1),
    penalty: Callable = lambda weight, obs: jnp.zeros(obs.shape[:2]),
    aux: Callable = lambda weight, label: jnp.zeros(()),
    metrics: Callable = lambda label: {},
    infer_offline: Callable | None = None,
) -> Agent:
    """An agent of one parameter `weight` (which starts at 1), without memory.

    Its features are functions of (weight, obs), by default the observations; the critic's have
    one more entry than the actor's.
    """

    def unroll(params, carry, inputs, key):
        del key
        weight, obs = params["weight"], inputs.obs
        return carry, Features(actor(weight, obs), critic(weight, obs), obs, penalty(weight, obs))

    return Agent(
        init=lambda key: {"weight": jnp.ones(())},
        initial_carry=lambda batch: jnp.zeros((batch, 1)),
        unroll=unroll,
        aux_loss=lambda params, features, label: (aux(params["weight"], label), metrics(label)),
        infer_offline=infer_offline,
        context=4,
    )


class Number(NamedTuple):
    """A task that is its own label."""

    h: jax.Array


@dataclasses.dataclass(frozen=True)
class Nowhere:
    """An environment with this spec whose observations and rewards are zeros."""

    declared: EnvSpec

    @property
    def spec(self) -> EnvSpec:
        return self.declared

    def sample_task(self, key):
        return Number(jnp.zeros(getattr(self.declared.task, "num", 1)))

    def task_set(self, split, num=None):
        return jax.vmap(self.sample_task)(jax.random.split(jax.random.key(0), num or 4))

    def describe(self, task):
        return task.h

    def reset(self, key, task):
        return jnp.zeros(self.declared.obs_dim), ()

    def step(self, key, state, action, task):
        return jnp.zeros(self.declared.obs_dim), (), jnp.zeros(()), jnp.zeros((), bool)


def posed(spec: EnvSpec, revealed: bool = False) -> Problem:
    """Returns the problem of an environment with this `spec`, whose label is the task. `revealed`:
    the observations of `spec` end with the label, as an oracle's do."""
    if revealed:
        told = heads.label_head(spec.task).embed_dim
        spec = dataclasses.replace(spec, obs_dim=spec.obs_dim - told)
    label = labels.of_the_moment(spec.task, lambda key, obs, state, task: task.h)
    return Problem(Nowhere(spec), label)


# ---- what a learner does, seen from outside ---------------------------------------


def first_inputs(spec: EnvSpec, obs) -> AgentInput:
    """Returns the inputs at the first step of N tasks, with the observations obs [N, D]."""
    num = len(obs)
    return AgentInput(
        jnp.asarray(obs, jnp.float32)[None],
        spec.action.none(num)[None],
        jnp.zeros((1, num)),
        jnp.ones((1, num), bool),
        jnp.ones((1, num), bool),
        jnp.zeros((1, num), jnp.int32),
    )


def policy(learner, params, spec: EnvSpec, obs) -> np.ndarray:
    """Returns the probabilities of discrete actions given obs [N, D], [N, num], from `act` alone.

    Requires that every action occurs among 256 draws.
    """
    inputs = first_inputs(spec, obs)
    carry = jnp.zeros((len(obs), 1))

    @jax.jit
    @jax.vmap
    def draw(key):
        _, action, log_prob = learner.act(params, carry, inputs, key)
        return action, log_prob

    action, log_prob = map(np.asarray, draw(jax.random.split(jax.random.key(7), 256)))
    found = np.full((len(obs), spec.action.num), np.nan)
    for row in range(len(obs)):
        found[row, action[:, row]] = np.exp(log_prob[:, row])
    assert not np.isnan(found).any()
    return found
