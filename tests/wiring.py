"""How tests put parts together: real agents at small sizes, and a toy agent whose features are
its observations, so that a learner's sums can be worked by hand.

The only place of these tests that knows how agents, learners and teachers are made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import taskbelief
from taskbelief import posterior, registry, rollout, supervision
from taskbelief.learners import ppo, svg0
from taskbelief.types import (
    Agent,
    AgentInput,
    Continuous,
    Discrete,
    EnvSpec,
    Features,
    Label,
    Reals,
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


def make_agent(name, spec, label, exact=None, **settings) -> Agent:
    """The agent `name` with networks of 8 units; of `settings`, those that it has."""
    module = registry.find("agents", name)
    given = {"exact": exact} if getattr(module, "NEEDS_POSTERIOR", False) else {}
    sizes = {"hidden": 8, "encoder": 8, **settings}
    fields = {field.name for field in dataclasses.fields(module.Config)}
    config = module.Config(**{name: value for name, value in sizes.items() if name in fields})
    return module.make(spec, label, config, **given)


def small(env_name, agent_name, core="lstm", label="description", learner=svg0, **settings):
    """(env as the agent sees it, agent, learner, teach) with networks of 8 units."""
    env = taskbelief.make(env_name, **SMALL[env_name])
    module = registry.find("agents", agent_name)
    family, teach = supervision.teacher(env, label)
    exact = posterior.make(env, 16) if getattr(module, "NEEDS_POSTERIOR", False) else None
    if getattr(module, "REVEALED", False):
        env = supervision.reveal_task(env, label)
    agent = make_agent(agent_name, env.spec, family, exact, core=core, **settings)
    sizes = learner.Config(actor_hidden=8, critic_hidden=8)
    if learner is ppo:
        sizes = dataclasses.replace(sizes, minibatches=BATCH)
    return env, agent, learner.make(env.spec, agent, sizes, 10), teach


def play(env, agent, learner, teach, seed=0):
    """(params, a trajectory of BATCH training tasks)."""
    init_key, task_key, play_key = jax.random.split(jax.random.key(seed), 3)
    params = learner.init(init_key).params
    tasks = jax.vmap(env.sample_task)(jax.random.split(task_key, BATCH))
    return params, rollout.collect(
        env,
        tasks,
        play_key,
        lambda core, inputs, key: learner.act(params, core, inputs, key),
        agent.initial_core(BATCH),
        teach,
    )


# ---- histories of no environment --------------------------------------------------

REAL = Reals(1, (0.5,), (2.0,))  # a label of one number


def spec_of(action=Continuous(2), label=REAL, obs_dim=3, steps=4, episodes=1) -> EnvSpec:
    return EnvSpec(obs_dim, action, label, label, steps, episodes)


def random_inputs(spec: EnvSpec, steps: int, batch: int = BATCH, seed: int = 0) -> AgentInput:
    """Inputs of random numbers; meta-episodes of several episodes, the first input of each a
    task start."""
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
    )


def batch_of(obs, action, log_prob, reward, terminated=None, h=0.0, dense=None) -> Trajectory:
    """The trajectory of these numbers: obs [T + 1, B, D], the rest [T, B].

    Ends inside are terminations; the task ends with the last step.
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
    price: Callable = lambda weight, obs: jnp.zeros(obs.shape[:2]),
    aux: Callable = lambda weight, label: jnp.zeros(()),
    metrics: Callable = lambda label: {},
    study: Callable | None = None,
) -> Agent:
    """An agent of one parameter `weight` (which starts at 1), without memory.

    Its features are functions of (weight, obs): by default the observations, with the critic's
    an entry wider than the actor's.
    """

    def unroll(params, core, inputs, key):
        del key
        weight, obs = params["weight"], inputs.obs
        return core, Features(actor(weight, obs), critic(weight, obs), obs, price(weight, obs))

    return Agent(
        init=lambda key: {"weight": jnp.ones(())},
        initial_core=lambda batch: jnp.zeros((batch, 1)),
        unroll=unroll,
        aux_loss=lambda params, features, label: (aux(params["weight"], label), metrics(label)),
        study=study,
    )


# ---- what a learner does, seen from outside ---------------------------------------


def first_inputs(spec: EnvSpec, obs) -> AgentInput:
    """The inputs on seeing obs [N, D] first."""
    num = len(obs)
    return AgentInput(
        jnp.asarray(obs, jnp.float32)[None],
        rollout.no_action(spec, num)[None],
        jnp.zeros((1, num)),
        jnp.ones((1, num), bool),
        jnp.ones((1, num), bool),
    )


def policy(learner, params, spec: EnvSpec, obs) -> np.ndarray:
    """Probabilities of discrete actions on seeing obs [N, D]: [N, num], by `act` alone.

    Every action must turn up among 256 draws.
    """
    inputs = first_inputs(spec, obs)
    core = jnp.zeros((len(obs), 1))

    @jax.jit
    @jax.vmap
    def draw(key):
        _, action, log_prob = learner.act(params, core, inputs, key)
        return action, log_prob

    action, log_prob = map(np.asarray, draw(jax.random.split(jax.random.key(7), 256)))
    found = np.full((len(obs), spec.action.num), np.nan)
    for row in range(len(obs)):
        found[row, action[:, row]] = np.exp(log_prob[:, row])
    assert not np.isnan(found).any()
    return found
