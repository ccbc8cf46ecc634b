"""Tests of the exact posterior at each step: cues, ties and the ends of episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import posterior, rollout
from tests.wiring import small

PADS, LENGTH = 9, 4


def cue_of(obs):
    """Returns the cued pad in a numpad observation with cues="next", -1 for none."""
    shown = obs[..., 4 + 2 * PADS + LENGTH :]
    return jnp.where(jnp.sum(shown, -1) > 0, jnp.argmax(shown, -1), -1)


def test_labels_agree_with_the_cue_on_screen():
    """They agree from the first observation on."""
    env, agent, learner, teach = small(
        "numpad", "aux_head", label="posterior_goal", env={"cues": "next", "cue_share": 1.0}
    )
    tasks = env.task_set("train", 64)
    params = learner.init(jax.random.key(0)).params
    played = jax.jit(
        lambda key: rollout.collect(
            env,
            tasks,
            key,
            lambda carry, inputs, key: learner.act(params, carry, inputs, key),
            agent.initial_carry(64),
            teach,
        )
    )(jax.random.key(1))
    cue = np.asarray(cue_of(played.inputs.obs[:-1]))
    label = np.asarray(played.label.h[..., 0])
    assert np.sum(cue[0] >= 0) > 16 and np.sum(cue[1:] >= 0) > 16
    np.testing.assert_array_equal(label[cue >= 0], cue[cue >= 0])


@pytest.mark.parametrize("cues", ["first", "next"])
def test_the_prior_given_the_first_observation(cues):
    """It is uniform over the sequences that agree with the cue."""
    env = taskbelief.make("numpad", cues=cues, cue_share=1.0)
    exact = posterior.make(env)
    task = jax.tree.map(lambda leaf: leaf[5], env.task_set("train"))
    keys = jax.random.split(jax.random.key(0), 20)
    for obs in jax.vmap(env.reset, in_axes=(0, None))(keys, task)[0]:
        shown = np.asarray(obs[4 + 2 * PADS + LENGTH :]).reshape(-1, PADS)
        places = np.flatnonzero(shown.sum(-1))
        sequences = np.asarray(exact.tasks.sequence)
        fits = np.all(sequences[:, places] == shown.argmax(-1)[places], axis=-1)
        probs = np.exp(exact.init(obs).log_probs)
        np.testing.assert_allclose(probs, fits / fits.sum(), atol=1e-6)
    np.testing.assert_allclose(np.exp(exact.init().log_probs), 1 / len(sequences), rtol=1e-5)


def test_of_tied_pads_the_nearest_is_read():
    """Two equally probable sequences start at opposite corners."""
    env = taskbelief.make("numpad")
    exact = posterior.make(env)
    first = np.asarray(exact.tasks.sequence)[:, 0]
    low, high = np.flatnonzero(first == 0)[0], np.flatnonzero(first == 8)[0]
    belief = exact.init()
    log_probs = jnp.full_like(belief.log_probs, -50.0).at[jnp.array([low, high])].set(-np.log(2))
    belief = belief._replace(log_probs=log_probs)
    for corner, pad in ((-0.5, 0), (0.5, 8)):
        obs, _ = env.reset(jax.random.key(0), jax.tree.map(lambda leaf: leaf[low], exact.tasks))
        obs = obs.at[:2].set(corner)
        mode = exact.statistics(belief, obs)[PADS + 2 :]  # after marginals and mean coordinates
        np.testing.assert_array_equal(mode[:PADS], np.eye(PADS)[pad])
        np.testing.assert_allclose(mode[PADS:], np.array([1.0, 1.0]) * corner, atol=1e-6)


def test_of_tied_goals_on_a_grid_the_nearest_is_read():
    """Under the prior of sparse_navigation all goals tie: the one nearest to the agent is read."""
    env = taskbelief.make("sparse_navigation")
    exact = posterior.make(env, 64)
    head_scale = np.asarray(env.spec.goal.scale)
    for place in ([0.5, 0.1], [-0.5, 0.1]):
        obs = jnp.asarray(place)
        likely = exact.statistics(exact.init(), obs)[4:6] * head_scale + obs
        goals = np.asarray(exact.tasks.goal)
        nearest = goals[np.argmin(np.linalg.norm(goals - np.asarray(place), axis=-1))]
        np.testing.assert_allclose(likely, nearest, atol=1e-5)


def test_exact_belief_counts_the_last_transition_of_an_episode():
    """The agent moves straight to the goal and is rewarded at the episode's last step only: a reset
    replaces the observation, but the posterior counts the reward."""
    env, agent, _, _ = small(
        "sparse_navigation", "exact_belief", env={"episode_steps": 9, "episodes": 2}
    )
    task = jax.tree.map(lambda leaf: leaf[None], env.sample_task(jax.random.key(3)))
    goal = task.goal[0]

    def act(carry, inputs, key):
        away = inputs.episode_start[0] & ~inputs.task_start[0]
        action = goal / jnp.max(jnp.abs(goal))  # full speed: 0.1 to 0.14 per step
        return carry, jnp.where(away[:, None], 0.0, action[None]), jnp.zeros(1)

    played = rollout.collect(env, task, jax.random.key(0), act, ())
    steps = int(jnp.argmax(played.reward[:, 0] > 0))
    assert played.reward[steps, 0] > 0 and steps < 9
    short = small(
        "sparse_navigation", "exact_belief", env={"episode_steps": steps + 1, "episodes": 2}
    )
    env, agent = short[0], short[1]
    played = rollout.collect(env, task, jax.random.key(0), act, ())
    assert played.reward[steps, 0] > 0 and not jnp.any(played.reward[:steps] > 0)
    assert played.episode_end[steps, 0]
    inputs = jax.tree.map(lambda leaf: leaf[: steps + 2], played.inputs)
    params = agent.init(jax.random.key(0))
    ((belief, _), _), _ = agent.unroll(params, agent.initial_carry(1), inputs, None)
    exact = posterior.make(env, 16)
    goals = np.asarray(exact.tasks.goal)
    best = goals[int(jnp.argmax(belief.log_probs[0]))]
    assert np.linalg.norm(best - goal) <= np.min(np.linalg.norm(goals - goal, axis=-1)) + 1e-6
    assert float(jnp.max(belief.log_probs)) > np.log(0.9)


def test_beliefs_along_a_history_read_what_was_reached_before_a_reset():
    """A recorder replaces the filter: its belief consists of the arguments of its last update."""

    class Recorder:
        init = staticmethod(lambda obs: jnp.concatenate([obs, obs, jnp.zeros(2)]))
        update = staticmethod(
            lambda belief, obs, action, reward, reached: jnp.concatenate(
                [obs, reached, jnp.stack([action, reward])]
            )
        )

    obs = jnp.arange(4.0)[:, None]
    reached = obs.at[2].set(9.0)
    action, reward = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 2.0, 3.0])
    found = posterior.along(Recorder, obs, action, reward, reached)
    wanted = [[0, 0, 0, 0], [0, 1, 0.1, 1], [1, 9, 0.2, 2], [2, 3, 0.3, 3]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    plain = posterior.along(Recorder, obs, action, reward)
    np.testing.assert_allclose(plain[:, 1], [0, 1, 2, 3])
