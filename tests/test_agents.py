"""Contracts of every agent: step equals sequence, resets, and a label that cannot leak."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from taskbelief import posterior, registry
from taskbelief.learners import ppo, svg0
from taskbelief.networks import cores

pytestmark = pytest.mark.usefixtures("unoptimised")

AGENTS = registry.names("agents")


@pytest.mark.parametrize(
    ("env_name", "agent_name", "core"),
    [(*pair, "lstm") for pair in PAIRS]
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


# beside what test_matrix.py compiles: settings that are off by default
@pytest.mark.parametrize(
    ("env_name", "agent_name", "learner", "settings"),
    [
        *(
            ("semicircle", agent, svg0, {"bottleneck_beta": 0.1})
            for agent in ("baseline", "belief", "aux_head")
        ),
        ("semicircle", "belief", svg0, {"policy_hidden": 8}),
        ("semicircle", "belief", ppo, {"policy_hidden": 8}),
        ("bandit", "oracle", svg0, {"label": "task_index", "condition": "embedding"}),
    ],
)
def test_an_update_is_finite_and_moves_everything(env_name, agent_name, learner, settings):
    env, agent, learner, teach = small(env_name, agent_name, learner=learner, **settings)
    _, batch = play(env, agent, learner, teach)
    state = learner.init(jax.random.key(0))
    after, metrics = jax.jit(learner.update)(state, batch, jax.random.key(1))
    assert all(jnp.isfinite(value) for value in metrics.values())
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state.params, after.params)
    if settings.get("condition") == "embedding":  # only the tasks that were played
        assert jnp.sum(moved["agent"].pop("table")) > 0
    assert all(jax.tree.leaves(moved)), moved
    assert ("bottleneck_kl" in metrics) == ("bottleneck_beta" in settings)


@pytest.mark.parametrize("agent_name", ["belief", "aux_head"])
def test_who_learns_from_what(agent_name):
    """The belief network learns from labels alone and the policy from reward alone; in aux_head
    both shape the memory."""
    env, agent, learner, teach = small("semicircle", agent_name)
    params, batch = play(env, agent, learner, teach)
    inputs = jax.tree.map(lambda leaf: leaf[:-1], batch.inputs)
    core = agent.initial_core(BATCH)

    def by_reward(params):
        features = agent.unroll(params, core, inputs, None)[1]
        return jnp.sum(jnp.sin(features.actor)) + jnp.sum(jnp.sin(features.critic))

    def by_label(params):
        features = agent.unroll(params, core, inputs, None)[1]
        return agent.aux_loss(params, features, batch.label)[0]

    reward = jax.grad(by_reward)(params["agent"])
    label = jax.grad(by_label)(params["agent"])
    size = jax.tree.map(lambda leaf: float(jnp.max(jnp.abs(leaf))), (reward, label))
    if agent_name == "belief":
        assert max(jax.tree.leaves(size[0])) == 0.0
    else:
        assert min(jax.tree.leaves(size[0]["history"])) > 0.0
    assert min(jax.tree.leaves(size[1])) > 0.0


def test_the_policy_core_of_belief_learns_from_reward_alone():
    env, agent, learner, teach = small("semicircle", "belief", policy_hidden=8)
    params, batch = play(env, agent, learner, teach)
    inputs = jax.tree.map(lambda leaf: leaf[:-1], batch.inputs)

    def by_label(params):
        features = agent.unroll(params, agent.initial_core(BATCH), inputs, None)[1]
        return agent.aux_loss(params, features, batch.label)[0]

    gradient = jax.grad(by_label)(params["agent"])["policy_core"]
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) == 0.0


def test_a_bottleneck_draws_when_learning_and_takes_the_mean_at_evaluation():
    env, agent, learner, teach = small("semicircle", "baseline", bottleneck_beta=0.1)
    params, batch = play(env, agent, learner, teach)
    core = agent.initial_core(BATCH)
    one, two = (
        agent.unroll(params["agent"], core, batch.inputs, jax.random.key(seed))[1].actor
        for seed in (1, 2)
    )
    mean, again = (agent.unroll(params["agent"], core, batch.inputs, None)[1] for _ in range(2))
    assert not jnp.allclose(one, two)
    np.testing.assert_array_equal(mean.actor, again.actor)
    assert jnp.all(mean.loss >= 0)
    with pytest.raises(ValueError, match="svg0"):
        ppo.make(env.spec, agent, ppo.Config())


def test_exact_belief_follows_the_posterior():
    """Its memory is what filtering the trajectory gives."""
    env, agent, learner, teach = small("numpad", "exact_belief")
    _, batch = play(env, agent, learner, teach)
    (belief, _), _ = agent.unroll({}, agent.initial_core(BATCH), batch.inputs, None)
    exact = posterior.make(env)
    along = jax.vmap(lambda *history: posterior.along(exact, *history), in_axes=1)(
        batch.inputs.obs, batch.action, batch.reward
    )
    np.testing.assert_allclose(belief.log_probs, along.log_probs[:, -1], atol=1e-5)
