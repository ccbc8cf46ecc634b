"""Tests of gymnax and Brax environments whose parameters are the task."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import taskbelief
from taskbelief import registry, rollout
from taskbelief.types import Categories, Continuous, Discrete, HasExpert, Reals

gymnax = pytest.importorskip("gymnax")
pytest.importorskip("brax")
from brax import envs  # noqa: E402
from brax.envs.wrappers import training  # noqa: E402
from gymnax.environments import environment, spaces  # noqa: E402
from gymnax.environments.classic_control import cartpole, pendulum  # noqa: E402


def force(key):
    """Draws the force on the cart: 20 to 30 newtons, of either sign."""
    sign_key, size_key = jax.random.split(key)
    size = jax.random.uniform(size_key, minval=20.0, maxval=30.0)
    sign = jax.random.rademacher(sign_key, (), jnp.float32)
    return cartpole.EnvParams(force_mag=sign * size)


def of_force(params):
    return params.force_mag


def mass(key):
    return pendulum.EnvParams(m=jax.random.uniform(key, minval=0.5, maxval=2.0))


def of_mass(params):
    return jnp.stack([params.m, params.g])


# module-level names, by which saved agents and the command line find these environments
pole = taskbelief.from_gymnax(
    "CartPole-v1", force, of_force, name="pole", episode_steps=8, episodes=3, train_tasks=5
)
swing = taskbelief.from_gymnax(
    "Pendulum-v1", mass, of_mass, train_tasks=4, holdout_tasks=3, terminates=False, reward_scale=0.5
)


# ---- gymnax -----------------------------------------------------------------------


def test_what_is_declared():
    assert pole.spec.obs_dim == 4 and pole.spec.action == Discrete(2) and pole.spec.terminates
    assert (pole.spec.episode_steps, pole.spec.task_steps) == (8, 24)
    assert swing.spec.obs_dim == 3 and swing.spec.action == Continuous(1)
    assert swing.spec.episode_steps == 200  # gymnax's own limit
    assert not swing.spec.terminates
    for split, num in (("train", 4), ("holdout", 3)):
        assert swing.task_set(split).m.shape == (num,)
    assert not isinstance(pole, HasExpert)


def test_a_step_of_the_pendulum_by_hand():
    """At rest and level, m = 2, g = 10, l = 1: an action of 0.5 is a torque of 1, which adds
    3 / (m l^2) = 1.5 to the 3 g / (2 l) = 15 of gravity; over 0.05 s that is 0.825 rad/s. The
    reward depends on the state before the step: -((pi / 2)^2 + 0.001), here halved."""
    _, state = swing.reset(jax.random.key(0), pendulum.EnvParams())
    state = state.replace(theta=jnp.float32(np.pi / 2), theta_dot=jnp.float32(0.0))
    key, action = jax.random.key(1), jnp.full(1, 0.5)
    obs, after, reward, over = swing.step(key, state, action, pendulum.EnvParams(m=2.0))
    angle = np.pi / 2 + 0.05 * 0.825
    np.testing.assert_allclose(obs, [np.cos(angle), np.sin(angle), 0.825], rtol=1e-5)
    assert float(reward) == pytest.approx(-0.5 * ((np.pi / 2) ** 2 + 0.001), rel=1e-5)
    assert after.time == 1 and not over
    # the mass is the hidden parameter: with half the mass, the torque has twice the effect
    obs, *_ = swing.step(key, state, action, pendulum.EnvParams(m=1.0))
    assert float(obs[2]) == pytest.approx(0.05 * (15 + 3), rel=1e-5)


def play(env, tasks, action):
    """Plays a meta-episode on each of `tasks`, always with the same action."""
    policy = rollout.memoryless(lambda key, state, task: action)
    return jax.jit(lambda: rollout.collect_scripted(env, tasks, jax.random.key(3), policy))()


def test_a_meta_episode_is_episodes_of_the_environment_itself_on_one_task():
    """Every step equals gymnax's own step from the previous observation, with the force of the
    task; after a fall the pole is reset, and the force stays."""
    tasks = pole.task_set("train")
    played = play(pole, tasks, jnp.int32(1))
    inner = cartpole.CartPole()
    ends, falls = np.asarray(played.episode_end), np.asarray(played.terminated)
    assert falls.sum(axis=0).min() >= 2  # a constant push makes the pole fall in every meta-episode
    for b in range(5):
        params = jax.tree.map(lambda leaf, b=b: leaf[b], tasks)
        elapsed = 0
        for t in range(pole.spec.task_steps):
            before = np.asarray(played.inputs.obs[t, b])
            state = cartpole.EnvState(elapsed, *before)
            after, _, reward, over, _ = inner.step_env(jax.random.key(0), state, 1, params)
            np.testing.assert_allclose(played.inputs.reached[t + 1, b], after, rtol=1e-4, atol=1e-5)
            assert played.reward[t, b] == reward and falls[t, b] == bool(over)
            elapsed += 1
            assert ends[t, b] == (bool(over) or elapsed == 8 or t == 23)
            seen = np.asarray(played.inputs.obs[t + 1, b])
            if ends[t, b] and t < 23:
                assert np.abs(seen).max() <= 0.05  # gymnax's own reset
                elapsed = 0
            else:
                np.testing.assert_array_equal(seen, played.inputs.reached[t + 1, b])


def test_the_label_is_the_description():
    tasks = pole.task_set("train")
    h = jax.vmap(pole.describe)(tasks)
    np.testing.assert_array_equal(h, np.asarray(tasks.force_mag)[:, None])
    assert np.unique(np.asarray(h)).size == 5
    # standardised by the training tasks
    centre, scale = pole.spec.task.centre, pole.spec.task.scale
    np.testing.assert_allclose(centre, np.mean(h, axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale, np.std(h, axis=0), rtol=1e-5)
    # a constant entry has scale 1, not 0
    mass_and_gravity = swing.spec.task
    assert mass_and_gravity.centre[1] == 10.0 and mass_and_gravity.scale[1] == 1.0
    np.testing.assert_allclose(swing.describe(pendulum.EnvParams(m=1.25)), [1.25, 10.0])


def test_the_sets_are_draws_that_do_not_depend_on_their_number():
    few, many = pole.task_set("train", 2), pole.task_set("train", 9)
    np.testing.assert_array_equal(few.force_mag, many.force_mag[:2])
    held = np.asarray(pole.task_set("holdout").force_mag)
    assert len(held) == 250
    assert not set(held.tolist()) & set(np.asarray(many.force_mag).tolist())
    assert np.abs(held).min() >= 20 and np.abs(held).max() <= 30
    for wrong in ({"split": "test"}, {"split": "train", "num": 0}):
        with pytest.raises(ValueError, match="must be"):
            pole.task_set(**wrong)


def test_both_keep_the_promises_of_environments():
    taskbelief.check_env(pole, steps=20)
    taskbelief.check_env(swing, steps=3)


def test_categories_and_an_expert():
    made = taskbelief.from_gymnax(
        "CartPole-v1",
        force,
        lambda params: jnp.reshape(params.force_mag > 0, 1),
        task=Categories(1, 2),
        expert=lambda key, state, params: jnp.int32(params.force_mag * state.theta > 0),
    )
    assert made.spec.task == made.spec.goal == Categories(1, 2)
    params = cartpole.EnvParams(force_mag=-20.0)
    assert made.describe(params).dtype == jnp.int32
    np.testing.assert_array_equal(made.describe(params), [0])
    assert isinstance(made, HasExpert)
    np.testing.assert_array_equal(made.goal(jnp.zeros(4), params), [0])
    _, state = made.reset(jax.random.key(0), params)
    # the pole leans right and needs a push to the right: action 0, because the force is negative
    state = state.replace(theta=jnp.float32(0.1))
    assert int(made.expert(jax.random.key(0), state, params)) == 0


@struct.dataclass
class Grid(environment.EnvState):
    seen: Any = None
    coin: Any = None


class Images(environment.Environment):
    """Integer observations with two axes, a Python number as reward, and actions with two axes."""

    def reset_env(self, key, params):
        return jnp.ones((2, 3), jnp.uint8), Grid(time=0, seen=0, coin=key)

    def step_env(self, key, state, action, params):
        after = Grid(time=state.time + 1, seen=jnp.sum(action) * params, coin=key)
        return jnp.full((2, 3), 7, jnp.uint8), after, 2, False, {}

    default_params = 1.0

    def action_space(self, params):
        return spaces.Box(jnp.array([[0.0, -4.0]]), jnp.array([[2.0, 4.0]]), (1, 2))


def test_other_forms_are_made_ours():
    made = taskbelief.from_gymnax(
        Images(), lambda key: jax.random.uniform(key), lambda params: params, episode_steps=4
    )
    assert made.spec.obs_dim == 6 and made.spec.action == Continuous(2)
    obs, state = made.reset(jax.random.key(0), jnp.float32(0.5))
    np.testing.assert_array_equal(obs, np.ones(6, np.float32))
    assert obs.dtype == jnp.float32 and state.seen.dtype == jnp.float32  # as step returns it
    obs, state, reward, over = made.step(
        jax.random.key(1), state, jnp.array([0.5, -0.25]), jnp.float32(0.5)
    )
    # 0.5 maps to 1.5 in [0, 2], -0.25 to -1 in [-4, 4]; their sum times the parameter
    assert float(state.seen) == 0.25
    assert reward.dtype == jnp.float32 and reward.shape == () and float(reward) == 2.0
    assert over.dtype == jnp.bool_ and not over
    # actions beyond [-1, 1] are clipped: 2 - 4, times the parameter
    after = made.step(jax.random.key(1), state, jnp.array([3.0, -5.0]), jnp.float32(0.5))[1]
    assert float(after.seen) == -1.0
    taskbelief.check_env(made, steps=3)


class Unbounded(Images):
    def action_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (1,))


class Nested(Images):
    def action_space(self, params):
        return spaces.Dict({})


class Labelled(Images):
    def reset_env(self, key, params):
        return {"image": jnp.ones(2)}, Grid(time=0)


class Changing(Images):
    def reset_env(self, key, params):
        return jnp.ones(2), Grid(time=0, seen=jnp.zeros(2), coin=key)


@pytest.mark.parametrize(
    ("env", "settings", "said"),
    [
        ("CartPole-v7", {}, "CartPole-v7 is not in registered gymnax environments"),
        (gymnax.make("CartPole-v1"), {}, "env is a tuple, not a name"),
        (Images(), {"episode_steps": None}, "episode_steps is wanted"),
        (Unbounded(), {}, "actions without bounds"),
        (Nested(), {}, "neither Discrete nor a Box"),
        (Labelled(), {}, "observations are a dict"),
        (Changing(), {}, "step returns another kind of state than reset"),
        (Images(), {"episodes": 0}, "episodes=0: must be at least 1"),
        (Images(), {"train_tasks": 0}, "train_tasks=0: must be at least 1"),
        (Images(), {"reward_scale": 0.0}, "reward_scale=0.0: must be positive"),
        (Images(), {"describe": lambda params: jnp.zeros((1, 2))}, r"of shape \[1, 2\], not \[num"),
        (Images(), {"task": Categories(2, 3)}, "describe gives 1 numbers, and task has 2"),
    ],
)
def test_what_gymnax_environments_are_refused(env, settings, said):
    given = {"describe": lambda params: params, "episode_steps": 4, **settings}
    with pytest.raises(ValueError, match=said):
        taskbelief.from_gymnax(env, lambda key: jax.random.uniform(key), **given)


# ---- Brax -------------------------------------------------------------------------


class Ice(NamedTuple):
    push: Any  # metres per second and step


class Sled(envs.Env):
    """A sled that keeps its speed; the episode terminates beyond 1 metre."""

    def __init__(self):
        self.sys = Ice(jnp.float32(0.25))

    def reset(self, rng):
        at = jax.random.uniform(rng, (2,), maxval=0.0625)
        zero = jnp.zeros(())
        return envs.State(at, at, zero, zero, {"speed": zero}, {"steps": 0})

    def step(self, state, action):
        speed = state.obs[1] + self.sys.push * action[0]
        at = jnp.stack([state.obs[0] + speed, speed])
        state.metrics["speed"] = speed
        state.info["steps"] += 1
        done = jnp.float32(jnp.abs(at[0]) > 1.0)
        return state.replace(pipeline_state=at, obs=at, reward=speed, done=done)

    observation_size, action_size, backend = 2, 1, "ice"


class Way(NamedTuple):
    direction: Any
    push: Any


def way(key):
    direction_key, push_key = jax.random.split(key)
    return Way(
        jax.random.rademacher(direction_key, (), jnp.float32),
        jax.random.uniform(push_key, minval=0.25, maxval=0.5),
    )


def of_way(params):
    return jnp.stack(params)


def hidden_ice(system, params):
    return system._replace(push=params.push)


def towards(state, action, after, params):
    return params.direction * after.metrics["speed"] + state.obs[0] + 10 * action[0]


def test_a_hidden_body_and_a_hidden_reward_in_brax():
    bare = Sled()
    env = taskbelief.from_brax(
        bare, way, of_way, system=hidden_ice, reward=towards, episode_steps=6, episodes=2
    )
    assert env.spec.obs_dim == 2 and env.spec.action == Continuous(1) and env.spec.terminates
    task = Way(jnp.float32(-1.0), jnp.float32(0.5))
    obs, state = env.reset(jax.random.key(0), task)
    np.testing.assert_array_equal(obs, bare.reset(jax.random.key(0)).obs)
    state = state.replace(obs=jnp.array([0.125, 0.25]))
    after_obs, after, reward, over = env.step(jax.random.key(1), state, jnp.full(1, 0.5), task)
    # the speed is 0.25 + 0.5 * 0.5 = 0.5, the position 0.625; the reward is -0.5 + 0.125 + 10 * 0.5
    np.testing.assert_array_equal(after_obs, [0.625, 0.5])
    assert float(reward) == -0.5 + 0.125 + 5.0 and not over
    assert after.info["steps"] == 1 and state.info["steps"] == 0  # `step` changes a copy
    assert float(state.metrics["speed"]) == 0.0
    *_, over = env.step(jax.random.key(1), after, jnp.zeros(1), task)
    assert over
    assert float(bare.sys.push) == 0.25
    taskbelief.check_env(env, steps=4)


def test_one_of_them_alone():
    common = {"episode_steps": 6, "train_tasks": 3}
    start = jax.random.key(0)
    task = Way(jnp.float32(-1.0), jnp.float32(0.5))
    body = taskbelief.from_brax(Sled(), way, of_way, system=hidden_ice, **common)
    state = body.reset(start, task)[1].replace(obs=jnp.array([0.125, 0.25]))
    assert float(body.step(start, state, jnp.ones(1), task)[2]) == 0.75  # its own reward: the speed
    paid = taskbelief.from_brax(Sled(), way, of_way, reward=towards, **common)
    obs, _, reward, _ = paid.step(start, state, jnp.ones(1), task)
    np.testing.assert_array_equal(obs, [0.625, 0.5])  # its own push: 0.25
    assert float(reward) == -0.5 + 0.125 + 10.0


def test_wrappers_of_ones_own_are_kept():
    class Blind(envs.Wrapper):
        def reset(self, rng):
            state = self.env.reset(rng)
            return state.replace(info=state.info | {"seen": state.obs})

        def step(self, state, action):
            state = self.env.step(state, action)
            return state.replace(info=state.info | {"seen": -state.obs})

    env = taskbelief.from_brax(Blind(Sled()), way, of_way, system=hidden_ice, episode_steps=6)
    task = Way(jnp.float32(1.0), jnp.float32(0.5))
    state = env.reset(jax.random.key(0), task)[1].replace(obs=jnp.array([0.125, 0.25]))
    after = env.step(jax.random.key(1), state, jnp.ones(1), task)[1]
    np.testing.assert_array_equal(after.info["seen"], [-0.875, -0.75])


class Eyes(Sled):
    def reset(self, rng):
        return super().reset(rng).replace(obs={"eye": jnp.zeros(2)})


@pytest.mark.parametrize(
    ("env", "settings", "said"),
    [
        ("dog", {}, "Brax has no environment 'dog'"),
        (Sled, {}, "env is a ABCMeta, not a name or a Brax environment"),
        (Sled(), {"reward": None}, "without system or reward the params would change nothing"),
        (envs.get_environment("fast"), {"system": hidden_ice}, "Fast has no sys"),
        (Eyes(), {}, "observations are a dict"),
        (training.EpisodeWrapper(Sled(), 5, 1), {}, "without EpisodeWrapper: batches, time limits"),
        (envs.Wrapper(training.VmapWrapper(Sled())), {}, "without VmapWrapper"),
        (Sled(), {"episode_steps": 0}, "episode_steps=0: must be at least 1"),
    ],
)
def test_what_brax_environments_are_refused(env, settings, said):
    given = {"reward": towards, "episode_steps": 6, **settings}
    with pytest.raises(ValueError, match=said):
        taskbelief.from_brax(env, way, of_way, **given)


# ---- in the house -----------------------------------------------------------------

TINY = {
    **{"hidden": 4, "encoder": 4, "head_hidden": 4, "actor_hidden": 4, "critic_hidden": 4},
    **{"envs": 4, "updates": 1, "train.batch": 4, "replay_rows": 8, "warmup": 1, "shards": 1},
    **{"rows": 1, "evaluation_tasks": 3, "belief_tasks": 0},
}


def test_settings_are_fields():
    changed = replace(pole, episodes=2)
    assert changed != pole and changed.spec.task_steps == 16 and hash(pole) == hash(replace(pole))
    assert pole != swing


def test_a_name_of_a_module_stands_for_it():
    assert registry.name_of(pole) == "tests.test_foreign:pole"
    assert taskbelief.make("tests.test_foreign:pole") == pole
    assert taskbelief.make("tests.test_foreign:pole", episodes=2) == replace(pole, episodes=2)
    with pytest.raises(ValueError, match="has no setting 'horizon': choose from episode_steps"):
        taskbelief.make("tests.test_foreign:pole", horizon=2)
    assert registry.name_of(swing) == "tests.test_foreign:Pendulum"  # no name was given
    spec = swing.spec.task
    assert isinstance(spec, Reals) and len(spec.centre) == 2


def test_its_settings_are_flags_of_the_command_line():
    from experiments import command

    names = ["--env", "tests.test_foreign:pole", "--agent", "belief"]
    chosen, _ = command.parse([*names, "--env.episodes", "4"])
    assert chosen.env == replace(pole, episodes=4)
    assert command.parse(names)[0].env == pole


def test_agents_are_trained_on_it_and_saved(tmp_path):
    trained = taskbelief.train(replace(pole, episodes=2), steps=2 * 64, **TINY)
    trained.save(tmp_path / "agent")
    loaded = taskbelief.load(tmp_path / "agent")
    assert loaded.env == replace(pole, episodes=2)
    assert jax.tree.all(jax.tree.map(np.array_equal, trained.params, loaded.params))
    played = loaded.rollout(pole.task_set("holdout", 3), jax.random.key(0))
    assert played.belief.shape == (16, 3, 1) and played.posterior is None
    np.testing.assert_array_equal(played.reward, np.ones((16, 3)))  # also a fall is rewarded
