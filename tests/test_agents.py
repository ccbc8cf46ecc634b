"""Contracts of every agent: step equals sequence, resets, and a label that cannot leak."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import registry, rollout, supervision
from taskbelief.learners import svg0
from taskbelief.networks import cores

AGENTS = registry.names("agents")
# small instances: what is tested does not depend on size
ENVS = {
    "bandit": {"arms": 3, "horizon": 8},
    "numpad": {"horizon": 8},
    "semicircle": {"horizon": 8},
}
BATCH = 3


def small(env_name, agent_name, core="lstm", label="description"):
    """(env as the agent sees it, agent, learner, teach) with networks of 8 units."""
    env = taskbelief.make(env_name, **ENVS[env_name])
    module = registry.find("agents", agent_name)
    family, teach = supervision.teacher(env, label)
    if getattr(module, "REVEALED", False):
        env = supervision.reveal_task(env, label)
    config = dataclasses.replace(module.Config(), hidden=8, encoder=8, core=core)
    agent = module.make(env.spec, family, config)
    learner = svg0.make(env.spec, agent, svg0.Config(actor_hidden=8, critic_hidden=8), 10)
    return env, agent, learner, teach


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


@pytest.mark.parametrize(
    ("env_name", "agent_name", "core"),
    [(env, agent, "lstm") for env in ENVS for agent in AGENTS]
    + [("bandit", "baseline", core) for core in cores.CORES if core != "lstm"],
)
def test_steps_equal_sequence(env_name, agent_name, core):
    """T single steps give the features of one unroll, across episode and task starts."""
    env, agent, learner, teach = small(env_name, agent_name, core)
    params, trajectory = play(env, agent, learner, teach)
    inputs = trajectory.inputs
    starts = jnp.zeros_like(inputs.task_start).at[0].set(True).at[5, 1].set(True)
    episodes = inputs.episode_start.at[3, 0].set(True).at[5, 1].set(True)
    inputs = inputs._replace(task_start=starts, episode_start=episodes)
    core0 = agent.initial_core(BATCH)

    @jax.jit
    def by_steps(params):
        def step(carry, one):
            one = jax.tree.map(lambda leaf: leaf[None], one)
            carry, features = agent.unroll(params["agent"], carry, one, None)
            return carry, jax.tree.map(lambda leaf: leaf[0], features)

        return jax.lax.scan(step, core0, inputs)

    last, stepped = by_steps(params)
    end, whole = jax.jit(lambda params: agent.unroll(params["agent"], core0, inputs, None))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (last, stepped),
        (end, whole),
    )


@pytest.mark.parametrize("core", cores.CORES)
def test_memory_is_zeroed_at_task_starts_and_kept_at_episode_starts(core):
    env, agent, learner, teach = small("semicircle", "baseline", core)
    params, trajectory = play(env, agent, learner, teach)
    inputs = jax.tree.map(lambda leaf: leaf[:6], trajectory.inputs)
    nothing = jnp.zeros((6, BATCH), bool)

    def unroll(inputs, core):
        return agent.unroll(params["agent"], core, inputs, None)[1].actor

    dirty = jax.tree.map(lambda leaf: leaf + 1.0, agent.initial_core(BATCH))
    tail = jax.tree.map(lambda leaf: leaf[3:], inputs)._replace(
        task_start=nothing[3:].at[0].set(True)
    )
    # a task start: what was before, and what the core held, leaves no trace
    started = unroll(inputs._replace(task_start=nothing.at[3].set(True)), dirty)
    np.testing.assert_allclose(started[3:], unroll(tail, agent.initial_core(BATCH)), rtol=1e-5)
    # an episode start: the core goes on as if nothing had happened but the flag
    kept = unroll(inputs._replace(task_start=nothing, episode_start=nothing.at[3].set(True)), dirty)
    assert not np.allclose(kept[3:], started[3:], atol=1e-3)


@pytest.mark.parametrize("agent_name", [name for name in AGENTS if name != "oracle"])
@pytest.mark.parametrize("env_name", ENVS)
def test_label_cannot_leak(env_name, agent_name):
    """With NaN for a label, what is acted is the same to the bit."""
    env, agent, learner, teach = small(env_name, agent_name)

    def nan(memory, key, state, task):
        h = teach.label(memory, key, state, task)
        return jnp.full_like(h, jnp.nan) if h.dtype == jnp.float32 else jnp.full_like(h, -(2**31))

    poisoned = teach._replace(label=nan)
    _, honest = jax.jit(lambda: play(env, agent, learner, teach))()
    _, blind = jax.jit(lambda: play(env, agent, learner, poisoned))()
    for name in ("inputs", "action", "log_prob", "reward"):
        jax.tree.map(np.testing.assert_array_equal, getattr(honest, name), getattr(blind, name))


@pytest.mark.parametrize(
    ("env_name", "agent_name", "label"),
    [(env, agent, "description") for env in ENVS for agent in AGENTS]
    + [("bandit", "aux_head", kind) for kind in supervision.KINDS if kind != "description"]
    + [("numpad", "aux_head", "posterior_goal")],
)
def test_an_update_is_finite_and_moves_everything(env_name, agent_name, label):
    env, agent, learner, teach = small(env_name, agent_name, label=label)
    _, batch = play(env, agent, learner, teach)
    state = learner.init(jax.random.key(0))
    after, metrics = jax.jit(learner.update)(state, batch, jax.random.key(1))
    assert all(jnp.isfinite(value) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.params, after.params)
    assert all(jax.tree.leaves(moved)), moved


def test_lstm_gradient_equals_the_plain_definition():
    """The hand-written backward pass against JAX's own through a plain cell."""
    keys = jax.random.split(jax.random.key(0), 5)
    projected = jax.random.normal(keys[0], (7, 2, 12))
    h, c = jax.random.normal(keys[1], (2, 2, 3))
    recurrent = jax.random.normal(keys[2], (3, 12))
    keep = (jax.random.uniform(keys[3], (7, 2, 1)) > 0.3).astype(jnp.float32)
    weight = jax.random.normal(keys[4], (2, 7, 2, 3))

    def plain(projected, keep, h, c, recurrent):
        hs, cs = [], []
        for t in range(len(projected)):
            h, c = h * keep[t], c * keep[t]
            i, f, g, o = jnp.split(projected[t] + h @ recurrent, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            hs.append(h)
            cs.append(c)
        return jnp.stack(hs), jnp.stack(cs)

    def loss(function, *args):
        hs, cs = function(*args)
        return jnp.sum(hs * weight[0] + cs * weight[1])

    args = projected, keep, h, c, recurrent
    for function in (plain, cores._lstm):
        np.testing.assert_allclose(loss(function, *args), loss(plain, *args), rtol=1e-5)
    wanted = jax.grad(loss, argnums=(1, 3, 4, 5))(plain, *args)
    found = jax.grad(loss, argnums=(1, 3, 4, 5))(cores._lstm, *args)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
