"""Tests of agents: single steps equal sequences, contents of features, gradients, losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from taskbelief import posterior, problem
from taskbelief.agents import _history, pearl
from taskbelief.envs.bandit import Bandit
from taskbelief.envs.noisy_target import NoisyTarget
from taskbelief.envs.numpad import Numpad
from taskbelief.envs.sparse_navigation import SparseNavigation
from taskbelief.learners import ppo, svg0
from taskbelief.networks import cores
from taskbelief.types import (
    AgentInput,
    Categories,
    Discrete,
    Label,
    Probabilities,
    Reals,
    Transition,
)
from tests.wiring import (
    BATCH,
    first_inputs,
    make_agent,
    posed,
    random_inputs,
    spec_of,
)

PLACES = Categories(1, 3, ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), origin=(0, 1))
INDEX = Categories(1, 3)
CONTINUOUS = spec_of()
DISCRETE = spec_of(action=Discrete(3), label=Probabilities(2))
EPISODES = spec_of(steps=4, episodes=3)
# (agent, spec, settings): all kinds of agents
KINDS = {
    "baseline": ("baseline", CONTINUOUS, {}),
    "baseline-discrete": ("baseline", DISCRETE, {}),
    **{f"baseline-{core}": ("baseline", CONTINUOUS, {"core": core}) for core in cores.CORES},
    "baseline-separate": ("baseline", CONTINUOUS, {"separate_cores": True}),
    "baseline-bottleneck": ("baseline", CONTINUOUS, {"bottleneck_beta": 0.1}),
    "aux_head": ("aux_head", spec_of(label=PLACES), {}),
    "aux_head-bottleneck": ("aux_head", CONTINUOUS, {"bottleneck_beta": 0.1}),
    "belief": ("belief", DISCRETE, {}),
    "belief-recurrent": ("belief", CONTINUOUS, {"policy_hidden": 8}),
    "belief-bottleneck": ("belief", CONTINUOUS, {"bottleneck_beta": 0.1}),
    "oracle": ("oracle", CONTINUOUS, {}),
    "oracle-embedding": ("oracle", spec_of(label=INDEX, obs_dim=5), {"condition": "embedding"}),
    "pearl": ("pearl", EPISODES, {"encoder": 8}),
}


def build(kind, **more):
    """Returns (spec, agent, params, random inputs of 8 steps)."""
    name, spec, settings = KINDS[kind]
    agent = make_agent(name, posed(spec, revealed=name == "oracle"), **settings, **more)
    inputs = random_inputs(spec, 8)
    if kind == "oracle-embedding":  # observations end with the index; task 1 is never played
        told = jax.nn.one_hot(jnp.array([0, 2, 0]), 3)
        inputs = inputs._replace(obs=inputs.obs.at[..., 2:].set(told))
    return spec, agent, agent.init(jax.random.key(0)), inputs


def labels(spec, steps=8):
    """Returns random labels in the family of `spec.task`."""
    rng = np.random.default_rng(5)
    if isinstance(spec.task, Categories):
        return Label(jnp.asarray(rng.integers(spec.task.classes, size=(steps, BATCH, 1))))
    num = spec.task.num
    return Label(jnp.asarray(rng.uniform(0.1, 0.9, (steps, BATCH, num)), jnp.float32))


def constant(params, value=0.0):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), params)


# ---- what is read -----------------------------------------------------------------


def test_acting_sees_observation_last_action_last_reward_and_episode_starts():
    inputs = AgentInput(
        obs=jnp.array([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]),
        prev_action=jnp.array([[0], [2], [0]], jnp.int32),
        prev_reward=jnp.array([[0.0], [0.5], [0.25]]),
        episode_start=jnp.array([[True], [False], [True]]),
        task_start=jnp.array([[True], [False], [False]]),
        elapsed=jnp.array([[0], [1], [0]], jnp.int32),
    )
    spec = spec_of(action=Discrete(3), obs_dim=2)
    expected = [
        [1, 2, 0, 0, 0, 0, 1, 0],  # zeros before the first action
        [3, 4, 0, 0, 1, 0.5, 0, 0.25],  # one of four steps is over
        [5, 6, 1, 0, 0, 0.25, 1, 0],  # action and reward of the previous episode
    ]
    found = _history.read(spec, inputs)[:, 0]
    np.testing.assert_array_equal(found, expected)
    assert found.shape[-1] == _history.read_dim(spec)


def x_of(spec, inputs):
    """Computes `_history.read` for continuous actions in NumPy."""
    action = np.where(inputs.task_start[..., None], 0.0, inputs.prev_action)
    flags = np.asarray(inputs.episode_start, np.float32)
    clock = np.asarray(inputs.elapsed, np.float32)[..., None] / spec.episode_steps
    reward = np.asarray(inputs.prev_reward)[..., None]
    parts = [inputs.obs, action, reward, flags[..., None], clock]
    return np.concatenate(parts, axis=-1)


DEVIATION = 0.1 + np.log(2.0)  # of a head with zero parameters, in units of the label's scale


@pytest.mark.parametrize(
    ("name", "settings", "before", "after"),
    [
        ("baseline", {}, 8, []),
        ("oracle", {}, 8, []),
        ("aux_head", {}, 8, [0.0, DEVIATION]),  # the expected label and its deviation
        ("aux_head", {"read_prediction": False}, 8, []),
        ("belief", {"head_hidden": 6}, 6, [0.0, DEVIATION]),
        ("belief", {"head_hidden": 6, "read_prediction": False}, 6, []),
        ("belief", {"head_hidden": 6, "policy_hidden": 2}, 6, [0.0, 0.0, 0.0, DEVIATION]),
    ],
)
def test_what_policy_and_critic_read(name, settings, before, after):
    """With all parameters zero, memories are zero: features are zeros, x, and the prediction."""
    agent = make_agent(name, posed(CONTINUOUS, revealed=name == "oracle"), **settings)
    inputs = random_inputs(CONTINUOUS, 8)
    params = constant(agent.init(jax.random.key(0)))
    _, features = agent.unroll(params, agent.initial_carry(BATCH), inputs, None)
    x = x_of(CONTINUOUS, inputs)
    zeros, rest = np.zeros((8, BATCH, before)), np.broadcast_to(after, (8, BATCH, len(after)))
    expected = np.concatenate([zeros, x, rest], axis=-1)
    np.testing.assert_allclose(features.actor, expected, rtol=1e-5)
    np.testing.assert_allclose(features.critic, expected, rtol=1e-5)
    np.testing.assert_array_equal(features.belief, zeros)
    np.testing.assert_array_equal(features.loss, np.zeros((8, BATCH)))


@pytest.mark.parametrize("kind", ["baseline", "oracle", "aux_head", "belief"])
def test_policy_and_critic_read_the_memory(kind):
    _, agent, params, inputs = build(kind)
    _, features = agent.unroll(params, agent.initial_carry(BATCH), inputs, None)
    size = features.belief.shape[-1]
    assert jnp.std(features.belief) > 0.01
    np.testing.assert_array_equal(features.actor[..., :size], features.belief)
    np.testing.assert_array_equal(features.critic[..., :size], features.belief)


# ---- steps and starts -------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "bottleneck" not in kind])
def test_steps_equal_sequence(kind):
    """T single steps give the features of one unroll, across episode and task starts."""
    _, agent, params, inputs = build(kind)
    starts = jnp.zeros_like(inputs.task_start).at[0].set(True).at[5, 1].set(True)
    episodes = inputs.episode_start.at[3, 0].set(True).at[5, 1].set(True)
    inputs = inputs._replace(task_start=starts, episode_start=episodes)
    zero = agent.initial_carry(BATCH)

    @jax.jit
    def both(params):
        def step(carry, one):
            one = jax.tree.map(lambda leaf: leaf[None], one)
            carry, features = agent.unroll(params, carry, one, None)
            return carry, jax.tree.map(lambda leaf: leaf[0], features)

        return jax.lax.scan(step, zero, inputs), agent.unroll(params, zero, inputs, None)

    stepped, whole = both(params)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, stepped, whole)


@pytest.mark.parametrize(
    "kind",
    [f"baseline-{core}" for core in cores.CORES]
    + ["baseline-separate", "aux_head", "belief-recurrent"],
)
def test_memory_is_zeroed_at_task_starts_and_kept_at_episode_starts(kind):
    """A task start clears each part of the carry; an episode start keeps it. This holds in the
    middle of a sequence and at its start."""
    _, agent, params, inputs = build(kind)
    unroll = jax.jit(lambda carry, inputs: agent.unroll(params, carry, inputs, None)[1])
    nothing, zero = jnp.zeros((8, BATCH), bool), agent.initial_carry(BATCH)
    leaves, form = jax.tree.flatten(zero)

    def change(inputs):
        """Returns the effect of each leaf of the carry on the features of policy and critic."""
        before = unroll(zero, inputs)
        found = []
        for number in range(len(leaves)):
            parts = [leaf + 1.0 * (n == number) for n, leaf in enumerate(leaves)]
            after = unroll(jax.tree.unflatten(form, parts), inputs)
            sizes = [jnp.abs(a - b)[4:] for a, b in zip(after[:2], before[:2], strict=True)]
            found.append(max(float(jnp.max(size)) for size in sizes))
        return found

    for place in (0, 4):
        flags = nothing.at[place].set(True)
        task = inputs._replace(task_start=flags, episode_start=flags)
        assert max(change(task)) == 0.0
        assert min(change(task._replace(task_start=nothing))) > 1e-3
    # inputs before the start of a task have no effect either
    later = jax.tree.map(lambda leaf: leaf[4:], task)
    np.testing.assert_allclose(
        unroll(zero, task).actor[4:], unroll(zero, later).actor, rtol=1e-4, atol=1e-6
    )


# ---- who learns from what ---------------------------------------------------------


def reach(kind, of, **more):
    """Returns the largest absolute gradient of `of(features, aux_loss)` in each leaf of params."""
    spec, agent, params, inputs = build(kind, **more)

    def value(params):
        if agent.infer_offline is not None:
            key = jax.random.key(1)
            features = agent.infer_offline(params, transitions(inputs), inputs.obs, key)
        else:
            key = jax.random.key(1) if agent.stochastic else None
            features = agent.unroll(params, agent.initial_carry(BATCH), inputs, key)[1]
        return of(features, agent.aux_loss(params, features, labels(spec))[0])

    gradient = jax.jit(jax.grad(value))(params)
    return jax.tree.map(lambda leaf: float(jnp.max(jnp.abs(leaf))), gradient)


def actor(features, aux):
    return jnp.sum(jnp.sin(features.actor))


def critic(features, aux):
    return jnp.sum(jnp.sin(features.critic))


def policy(features, aux):
    return actor(features, aux) + critic(features, aux)


def label(features, aux):
    return aux


def untouched(sizes):
    return max(jax.tree.leaves(sizes)) == 0.0


def all_reached(sizes):
    return min(jax.tree.leaves(sizes)) > 0.0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "belief-recurrent"])
def test_every_parameter_learns_from_something(kind):
    sizes = reach(kind, lambda features, aux: policy(features, aux) + aux + jnp.sum(features.loss))
    assert all_reached(sizes), sizes


def test_belief_learns_from_labels_alone():
    assert untouched(reach("belief", policy))
    assert all_reached(reach("belief", label))


def test_the_policy_core_of_belief_learns_from_reward_alone():
    by_reward, by_label = reach("belief-recurrent", policy), reach("belief-recurrent", label)
    assert all_reached(by_reward.pop("policy_core")) and untouched(by_label.pop("policy_core"))
    assert untouched(by_reward) and all_reached(by_label)


def test_reward_and_labels_both_shape_the_memory_of_aux_head():
    """Its head is trained by labels, not by reward."""
    by_reward = reach("aux_head", policy)
    assert untouched(by_reward.pop("head"))
    assert all_reached(by_reward)
    assert all_reached(reach("aux_head", label))


def test_no_label_reaches_the_baseline():
    assert untouched(reach("baseline", label))


def test_separate_cores_are_the_actors_and_the_critics():
    by_actor = reach("baseline-separate", actor)["histories"]
    by_critic = reach("baseline-separate", critic)["histories"]
    assert len(by_actor) == 2
    (own, other), (others, owns) = list(by_actor.values()), list(by_critic.values())
    assert all_reached(own) and untouched(other) and untouched(others) and all_reached(owns)


def test_the_critic_trains_pearls_encoder_and_the_actor_does_not():
    assert untouched(reach("pearl", actor))
    assert all_reached(reach("pearl", critic))
    assert all_reached(reach("pearl", lambda features, aux: jnp.sum(features.loss)))


def test_pearls_actor_trains_no_encoder_along_the_way_either():
    _, agent, params, inputs = build("pearl")

    def value(params):
        return jnp.sum(agent.unroll(params, agent.initial_carry(BATCH), inputs, None)[1].actor)

    assert untouched(jax.tree.map(jnp.max, jax.tree.map(jnp.abs, jax.grad(value)(params))))


# ---- what the agent's own losses cost ---------------------------------------------


@pytest.mark.parametrize("name", ["aux_head", "belief"])
def test_a_label_costs_its_negative_log_likelihood_by_weight(name):
    """With zero parameters, a head predicts a normal distribution around the label's centre, with
    DEVIATION times the label's scale."""
    agent = make_agent(name, posed(CONTINUOUS), aux_weight=0.25)
    params = constant(agent.init(jax.random.key(0)))
    inputs, h = random_inputs(CONTINUOUS, 8), labels(CONTINUOUS)
    _, features = agent.unroll(params, agent.initial_carry(BATCH), inputs, None)
    expected = stats.norm(0.5, 2.0 * DEVIATION).logpdf(h.h[..., 0])
    np.testing.assert_allclose(agent.belief_log_prob(params, features, h), expected, rtol=1e-5)
    loss, metrics = agent.aux_loss(params, features, h)
    np.testing.assert_allclose(loss, -0.25 * expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["belief_nll"], -expected.mean(), rtol=1e-5)


# with zero parameters, codes have mean 0 and deviation log(1 + 1/e) for every memory
STD = np.log1p(np.exp(-1.0))
KL = 0.5 * (STD**2 - 1.0) - np.log(STD)


@pytest.mark.parametrize(
    ("name", "settings", "memories"),
    [
        ("baseline", {}, 1),
        ("baseline", {"separate_cores": True}, 2),
        ("aux_head", {}, 1),
        ("belief", {}, 1),
    ],
)
def test_a_bottleneck_draws_codes_at_a_price(name, settings, memories):
    agent = make_agent(name, posed(CONTINUOUS), bottleneck_beta=0.2, bottleneck_size=50, **settings)
    params = constant(agent.init(jax.random.key(0)))
    inputs, carry = random_inputs(CONTINUOUS, 8), agent.initial_carry(BATCH)
    assert agent.stochastic
    draws = []
    for key in (jax.random.key(1), jax.random.key(2), None):
        _, features = agent.unroll(params, carry, inputs, key)
        np.testing.assert_allclose(features.loss, 0.2 * memories * 50 * KL, rtol=1e-5)
        metrics = agent.aux_loss(params, features, labels(CONTINUOUS))[1]
        np.testing.assert_allclose(metrics["bottleneck_kl"], memories * 50 * KL, rtol=1e-5)
        draws.append(features)
    first, second, evaluated = (draw.actor[..., :50] for draw in draws)
    if name == "belief":  # a layer with zero parameters follows
        return
    np.testing.assert_array_equal(evaluated, np.zeros((8, BATCH, 50)))
    for drawn in (first, second):
        np.testing.assert_allclose(np.std(drawn), STD, rtol=0.1)
    correlation = np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]
    assert abs(correlation) < 0.1
    if memories == 2:
        of_critic = np.ravel(draws[0].critic[..., :50])
        assert abs(np.corrcoef(np.ravel(first), of_critic)[0, 1]) < 0.1


def test_ppo_refuses_features_that_are_drawn():
    spec, agent, _, _ = build("baseline-bottleneck")
    with pytest.raises(ValueError, match="bottleneck_beta"):
        ppo.make(posed(spec), agent, ppo.Config())


@pytest.mark.parametrize("learner", [ppo, svg0])
def test_learners_from_histories_refuse_what_learns_from_transitions(learner):
    spec, agent, _, _ = build("pearl")
    with pytest.raises(ValueError, match="pearl from single transitions: it goes with sac"):
        learner.make(posed(spec), agent, learner.Config())


# ---- oracle -----------------------------------------------------------------------


def test_an_oracle_of_embeddings_reads_the_row_of_its_task():
    """It equals the baseline on observations in which the row of the table replaces the index."""
    _, agent, params, inputs = build("oracle-embedding", embedding_size=4)
    table = params["table"]
    assert table.shape == (3, 4)
    told = np.broadcast_to(np.asarray(table)[[0, 2, 0]], (8, BATCH, 4))
    bare = spec_of(obs_dim=2 + 4)
    plain = make_agent("baseline", posed(bare))
    seen = inputs._replace(obs=jnp.concatenate([inputs.obs[..., :2], told], axis=-1))
    expected = plain.unroll(params["agent"], plain.initial_carry(BATCH), seen, None)[1]
    found = agent.unroll(params, agent.initial_carry(BATCH), inputs, None)[1]
    np.testing.assert_allclose(found.actor, expected.actor, rtol=1e-5, atol=1e-6)


def test_embeddings_of_tasks_that_are_not_played_stay():
    _, agent, params, inputs = build("oracle-embedding")

    def value(params):
        carry = agent.initial_carry(BATCH)
        return jnp.sum(jnp.sin(agent.unroll(params, carry, inputs, None)[1].actor))

    by_row = np.abs(jax.grad(value)(params)["table"]).max(axis=-1)
    np.testing.assert_array_equal(by_row > 0, [True, False, True])


@pytest.mark.parametrize("family", [PLACES, Categories(2, 3), Reals(1, (0.0,), (1.0,))])
def test_embeddings_need_the_index_of_a_task(family):
    with pytest.raises(ValueError, match="task_index"):
        make_agent("oracle", posed(spec_of(obs_dim=2, label=family)), condition="embedding")


# ---- exact_belief -----------------------------------------------------------------


def starts(steps, tasks=(), episodes=()):
    """Returns (episode_start, task_start) of BATCH meta-episodes, true at 0 and at these places."""
    task = np.zeros((steps, BATCH), bool)
    task[0] = True
    episode = task.copy()
    for place in tasks:
        task[place] = episode[place] = True
    for place in episodes:
        episode[place] = True
    return jnp.asarray(episode), jnp.asarray(task)


def test_exact_belief_on_a_bandit_counts_wins_and_losses():
    """Compares with a count in plain Python. The first input of an episode contains the last action
    and reward of the previous one; the first input of a task resets the counts."""
    env = Bandit(arms=2, horizon=9)
    agent = make_agent("exact_belief", problem.make(env))
    rng = np.random.default_rng(2)
    action = rng.integers(2, size=(9, BATCH))
    reward = rng.integers(2, size=(9, BATCH)).astype(np.float32)
    episode, task = starts(9, tasks=[(5, 1)], episodes=[(3, 0), (6, 2)])
    inputs = AgentInput(
        jnp.ones((9, BATCH, 1)),
        jnp.asarray(action, jnp.int32),
        jnp.asarray(reward),
        episode,
        task,
        jnp.zeros((9, BATCH), jnp.int32),
    )
    params, carry, parts = agent.init(jax.random.key(0)), agent.initial_carry(BATCH), []
    for steps in (slice(0, 4), slice(4, 9)):  # in two calls, as when acting
        part = jax.tree.map(lambda leaf, steps=steps: leaf[steps], inputs)
        carry, features = agent.unroll(params, carry, part, None)
        parts.append(features)
    features = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    for row in range(BATCH):
        wins, pulls = np.zeros(2), np.zeros(2)
        for t in range(9):
            if task[t, row]:
                wins, pulls = np.zeros(2), np.zeros(2)
            else:
                wins[action[t, row]] += reward[t, row]
                pulls[action[t, row]] += 1
            beta = stats.beta(1 + wins, 1 + pulls - wins)
            expected = np.concatenate([beta.mean() - 0.5, beta.std()]) * np.sqrt(12)
            np.testing.assert_allclose(features.actor[t, row, 2:6], expected, rtol=1e-5, atol=1e-6)
    read = 6 + _history.read_dim(env.spec)
    x = _history.read(env.spec, inputs)
    np.testing.assert_array_equal(features.actor[..., 6:read], x)
    np.testing.assert_array_equal(features.critic, features.actor)
    core = cores.LSTM(read, 64, env.spec.task_steps, rngs=nnx.Rngs(params=jax.random.key(0)))
    initial = cores.LSTM.initial(BATCH, 64)
    _, planned = core(initial, features.actor[..., :read], task)
    np.testing.assert_allclose(features.actor[..., read:], planned, rtol=1e-5, atol=1e-6)


def test_exact_belief_without_a_core_has_no_parameters():
    env = Bandit(arms=2, horizon=3)
    agent = make_agent("exact_belief", problem.make(env), policy_hidden=0)
    assert agent.init(jax.random.key(0)) == {}
    inputs = first_inputs(env.spec, jnp.ones((BATCH, 1)))
    _, features = agent.unroll({}, agent.initial_carry(BATCH), inputs, None)
    assert features.actor.shape[-1] == 6 + _history.read_dim(env.spec)


def test_exact_belief_follows_the_posterior_step_by_step():
    """Compares its features with the statistics of `posterior.update` in a plain loop, over several
    episodes of one task and the start of another."""
    env = SparseNavigation(episode_steps=4, episodes=2, goal_radius=0.5)
    exact = posterior.make(env, 16)
    agent = make_agent("exact_belief", problem.make(env), policy_hidden=0)
    rng = np.random.default_rng(3)
    obs = jnp.asarray(rng.uniform(-1, 1, (9, BATCH, 2)), jnp.float32)
    action = jnp.asarray(rng.uniform(-1, 1, (9, BATCH, 2)), jnp.float32)
    reward = jnp.zeros((9, BATCH)).at[2, 0].set(0.7).at[7, 2].set(0.6)
    episode, task = starts(9, tasks=[(6, 1)], episodes=[(4, 0), (4, 2)])
    reached = jnp.where(episode[..., None], obs + 0.1, obs)
    inputs = AgentInput(
        obs, action, reward, episode, task, jnp.zeros((9, BATCH), jnp.int32), reached
    )
    unroll = jax.jit(lambda carry: agent.unroll({}, carry, inputs, None))
    ((belief, _), _), features = unroll(agent.initial_carry(BATCH))
    update, statistics = jax.jit(exact.update), jax.jit(exact.statistics)
    for row in range(BATCH):
        known = exact.init()
        for t in range(9):
            if task[t, row]:
                known = exact.init()
            else:
                now = (obs[t - 1, row], action[t, row], reward[t, row], reached[t, row])
                known = update(known, *now)
            expected = statistics(known, obs[t, row])
            found = features.actor[t, row, : len(expected)]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(belief.log_probs[row], known.log_probs, rtol=1e-3, atol=1e-3)


def test_exact_belief_counts_where_the_last_action_of_an_episode_led():
    """The posterior uses the position that the action reached, not the start of the next episode.
    After a reward near the last of 16 targets, the mass of each is proportional to its reward
    probability at that position, 1 / (1 + d²), d in fifths of the radius, at most 1/2."""
    env = NoisyTarget(horizon=4)
    agent = make_agent("exact_belief", problem.make(env), policy_hidden=0)
    start, there = jnp.zeros(4), jnp.array([-1.0, 0.05, 0.0, 0.0])
    first = first_inputs(env.spec, start[None])
    after = first._replace(
        prev_reward=jnp.ones((1, 1)),
        task_start=jnp.zeros((1, 1), bool),
        reached=there[None, None],
    )
    inputs = jax.tree.map(
        lambda *steps: jnp.concatenate(steps), first._replace(reached=first.obs), after
    )
    _, features = agent.unroll({}, agent.initial_carry(1), inputs, None)
    angle = (np.arange(16) + 0.5) * np.pi / 16
    gaps = np.hypot(np.cos(angle) + 1.0, np.sin(angle) - 0.05)
    masses = np.minimum(0.5, 1.0 / (1.0 + np.square(5.0 * gaps)))
    found = features.actor[1, 0, 6:22]  # after mean, deviation and most probable target
    np.testing.assert_allclose(found, masses / masses.sum(), rtol=1e-3)


def test_exact_belief_reads_the_cue_of_the_first_observation():
    """The cue shows that the first pad is the last of four; without a cue, all four are equally
    probable."""
    env = Numpad(size=2, length=2, train_tasks=4, cues="first")
    agent = make_agent("exact_belief", problem.make(env), policy_hidden=0)
    obs = jnp.zeros((1, 1, env.spec.obs_dim))
    for cue, marginals in ((obs, [0.25] * 4), (obs.at[..., -8 + 3].set(1.0), [0, 0, 0, 1.0])):
        _, features = agent.unroll({}, agent.initial_carry(1), first_inputs(env.spec, cue[0]), None)
        np.testing.assert_allclose(features.actor[0, 0, :4], marginals, atol=1e-5)


def test_what_exact_belief_reads_of_two_goals_in_question():
    """Masses 0.75 and 0.25 on two of 16 goals: mean, deviation, more probable goal, masses."""
    env = SparseNavigation()
    exact = posterior.make(env, 16)
    masses = np.full(16, 1e-9)
    masses[[2, 11]] = 0.75, 0.25
    belief = exact.init()._replace(log_probs=jnp.log(jnp.asarray(masses, jnp.float32)))
    obs = np.array([0.3, -0.2])
    angle = (np.arange(16) + 0.5) * np.pi / 16
    goals = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[[2, 11]]
    scale = np.sqrt([1 / 2, 1 / 2 - 4 / np.pi**2])  # deviations of x and y over the half circle
    mean = 0.75 * goals[0] + 0.25 * goals[1]
    deviation = np.sqrt(0.75 * 0.25) * np.abs(goals[0] - goals[1])
    expected = [(mean - obs) / scale, deviation / scale, (goals[0] - obs) / scale, masses]
    found = exact.statistics(belief, jnp.asarray(obs, jnp.float32))
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-5)


# ---- PEARL ------------------------------------------------------------------------

MEAN, PRECISION = np.array([2.0, -1.0]), np.array([0.3, 0.05])  # of each transition's factor


def transitions(inputs):
    """Returns the transitions of a history, [T - 1, B, ...]. learning_reward and next_obs are NaN,
    because the encoder must not read them."""
    reward = inputs.prev_reward[1:]
    return Transition(
        inputs.obs[:-1],
        inputs.prev_action[1:],
        reward,
        reward * jnp.nan,
        inputs.obs[1:] * jnp.nan,
        reward > 0,
    )


def pearl_of_known_factors(**settings):
    """Returns (agent, params) that give each transition the same factor: only the last bias of the
    encoder is not 0."""
    settings = {"prior_episodes": 1, "context": 100, **settings}
    agent = make_agent("pearl", posed(EPISODES), latent=2, encoder=8, **settings)
    raw = np.log(np.expm1(PRECISION)) + 4.6  # softplus(raw - 4.6)
    last = jnp.asarray(np.concatenate([MEAN, raw]), jnp.float32)
    params = jax.tree.map(
        lambda leaf: last if leaf.shape == (4,) else jnp.zeros_like(leaf),
        agent.init(jax.random.key(0)),
    )
    return agent, params


def product(num):
    """Mean and deviation of N(0, 1) times `num` factors, in closed form."""
    precision = 1.0 + num * PRECISION
    return num * PRECISION * MEAN / precision, 1.0 / np.sqrt(precision)


@pytest.mark.parametrize("key", [None, 4])
def test_pearl_draws_from_the_product_of_all_it_has_seen_when_an_episode_starts(key):
    """Each of three episodes of four steps uses the evidence of all steps before it."""
    agent, params = pearl_of_known_factors()
    inputs = random_inputs(EPISODES, 12)
    key = None if key is None else jax.random.key(key)
    unroll = jax.jit(lambda carry: agent.unroll(params, carry, inputs, key))
    _, features = unroll(agent.initial_carry(BATCH))
    for t in range(12):
        episode = t // 4
        mean, std = product(4 * episode)
        if key is None:  # a draw per meta-episode and episode, from a fixed key
            fold = jax.random.fold_in
            keys = [fold(fold(jax.random.key(0), row), episode) for row in range(BATCH)]
            noise = np.stack([jax.random.normal(key, (2,)) for key in keys])
        else:
            noise = jax.random.normal(jax.random.split(key, 12)[4 * episode], (BATCH, 2))
        expected = np.concatenate([inputs.obs[t], mean + std * noise], axis=-1)
        np.testing.assert_allclose(features.critic[t], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features.actor, features.critic)
    np.testing.assert_array_equal(features.loss, np.zeros((12, BATCH)))


def test_pearl_forgets_with_the_task():
    """A task that starts at step 6 begins with the prior. Its second episode has the evidence of 3
    steps, and evaluation uses the fixed draws of a first and a second episode."""
    agent, params = pearl_of_known_factors(context=3)
    inputs = random_inputs(EPISODES, 12)
    task = inputs.task_start.at[6].set(True)
    episode = inputs.episode_start.at[8].set(False).at[6].set(True).at[9].set(True)
    inputs = inputs._replace(task_start=task, episode_start=episode)
    z = agent.unroll(params, agent.initial_carry(BATCH), inputs, None)[1].critic[..., 3:]
    noise = pearl._fixed(jnp.arange(BATCH), jnp.zeros(BATCH, int), jnp.zeros((BATCH, 2)))
    np.testing.assert_allclose(z[6], noise, rtol=1e-5)
    np.testing.assert_array_equal(z[6], z[0])
    noise = pearl._fixed(jnp.arange(BATCH), jnp.ones(BATCH, int), jnp.zeros((BATCH, 2)))
    mean, std = product(3)
    np.testing.assert_allclose(z[9], mean + std * noise, rtol=1e-4)


@pytest.mark.parametrize("first", [0, 2, 3])
def test_pearl_draws_from_the_prior_in_the_first_episodes_of_a_task(first):
    """Uses three episodes; a new task at the third begins with the prior again."""
    agent, params = pearl_of_known_factors(prior_episodes=first)
    inputs = random_inputs(EPISODES, 12)
    unroll = jax.jit(lambda inputs: agent.unroll(params, agent.initial_carry(BATCH), inputs, None))
    prior = pearl._fixed(jnp.arange(BATCH), jnp.full(BATCH, 1), jnp.zeros((BATCH, 2)))
    mean, std = product(4)
    expected = prior if first > 1 else mean + std * prior
    z = unroll(inputs)[1].critic[..., 3:]
    np.testing.assert_allclose(z[4], expected, rtol=1e-4)
    last = pearl._fixed(jnp.arange(BATCH), jnp.full(BATCH, 2), jnp.zeros((BATCH, 2)))
    mean, std = product(8)
    np.testing.assert_allclose(z[8], last if first > 2 else mean + std * last, rtol=1e-4)
    again = unroll(inputs._replace(task_start=inputs.task_start.at[8].set(True)))[1].critic
    np.testing.assert_allclose(again[8, :, 3:], z[0], rtol=1e-4)  # no evidence either way


def test_the_evidence_of_more_than_a_context_is_scaled_down_to_one():
    """With three episodes of four steps and a context of 6, 4 transitions count in full, 8 as 6."""
    agent, params = pearl_of_known_factors(context=6)
    inputs = random_inputs(EPISODES, 12)
    _, features = agent.unroll(params, agent.initial_carry(BATCH), inputs, None)
    for episode, num in ((1, 4), (2, 6)):
        mean, std = product(num)
        noise = pearl._fixed(jnp.arange(BATCH), jnp.full(BATCH, episode), jnp.zeros((BATCH, 2)))
        z = features.critic[4 * episode, :, 3:]
        np.testing.assert_allclose(z, mean + std * noise, rtol=1e-4)


def test_pearl_infers_offline_by_one_draw_for_all_that_is_asked_and_a_kl():
    agent, params = pearl_of_known_factors(kl_weight=0.5)
    inputs = random_inputs(EPISODES, 13)  # twelve transitions
    asked = np.random.default_rng(3).normal(size=(5, BATCH, 3))
    key = jax.random.key(2)
    features = agent.infer_offline(params, transitions(inputs), jnp.asarray(asked), key)
    mean, std = product(12)
    z = mean + std * np.asarray(jax.random.normal(key, (BATCH, 2)))
    x = np.concatenate([asked, np.broadcast_to(z, (5, BATCH, 2))], axis=-1)
    np.testing.assert_allclose(features.critic, x, rtol=1e-4)
    np.testing.assert_array_equal(features.actor, features.critic)
    kl = np.sum(0.5 * (mean**2 + std**2 - 1.0) - np.log(std))
    np.testing.assert_allclose(features.loss, 0.5 * kl, rtol=1e-4)
    loss, metrics = agent.aux_loss(params, features, Label(None))
    assert loss == 0.0
    np.testing.assert_allclose(metrics["latent_kl"], kl, rtol=1e-4)


def test_pearl_without_evidence_is_the_prior_and_costs_nothing():
    agent, params = pearl_of_known_factors(kl_weight=0.5)
    nothing = jax.tree.map(lambda leaf: leaf[:0], transitions(random_inputs(EPISODES, 2)))
    key = jax.random.key(2)
    features = agent.infer_offline(params, nothing, jnp.zeros((1, BATCH, 3)), key)
    z = jax.random.normal(key, (BATCH, 2))
    np.testing.assert_allclose(features.critic[0, :, 3:], z, rtol=1e-6)
    np.testing.assert_allclose(features.loss, 0.0, atol=1e-6)


def test_pearls_evidence_is_of_whole_transitions_in_any_order():
    """A permutation of whole transitions (x, a, r) leaves the posterior unchanged; a permutation of
    the observations, actions or rewards alone changes it. Acting accumulates the same evidence."""
    _, agent, params, _ = build("pearl", latent=2, prior_episodes=0)
    params = jax.tree.map(lambda leaf: 5.0 * leaf, params)  # outputs that are not negligible
    inputs = random_inputs(EPISODES, 9)
    inputs = inputs._replace(episode_start=inputs.episode_start.at[8].set(True))
    key = jax.random.key(2)

    def draw(obs, action, reward, key=key):
        context = transitions(inputs)._replace(obs=obs, action=action, reward=reward)
        return agent.infer_offline(params, context, inputs.obs[:1], key).belief[0]

    wholes = inputs.obs[:-1], inputs.prev_action[1:], inputs.prev_reward[1:]
    z = draw(*wholes)
    order = np.random.default_rng(0).permutation(8)
    np.testing.assert_allclose(draw(*(part[order] for part in wholes)), z, rtol=1e-4, atol=1e-5)
    for place in range(3):
        parts = [part[order] if n == place else part for n, part in enumerate(wholes)]
        assert np.abs(draw(*parts) - z).max() > 1e-3
    # two draws determine mean and deviation, and these the draw of acting at the last episode start
    one, two = (jax.random.normal(k, (BATCH, 2)) for k in (key, jax.random.key(3)))
    std = (z - draw(*wholes, key=jax.random.key(3))) / (one - two)
    mean = z - std * one
    acting = agent.unroll(params, agent.initial_carry(BATCH), inputs, key)[1].belief[8]
    noise = jax.random.normal(jax.random.split(key, 9)[8], (BATCH, 2))
    np.testing.assert_allclose(acting, mean + std * noise, rtol=1e-3, atol=1e-3)


def test_pearl_wants_several_episodes():
    with pytest.raises(ValueError, match="one single episode"):
        make_agent("pearl", posed(CONTINUOUS))
