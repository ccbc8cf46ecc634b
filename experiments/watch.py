"""Films a meta-episode: state, reward, the agent's own belief, and the exact posterior.

    python -m experiments.watch RUN
    python -m experiments.watch RUN --task 3 --step 40 --out one.png
    python -m experiments.watch --env numpad --policy expert --out numpad.gif

RUN is a run's directory, or a saved agent's; its agent acts as at evaluation. Without a run, a
scripted policy acts. A .gif shows the whole meta-episode, a .png one step (by default the last).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import taskbelief
from experiments import stop
from taskbelief import explorer, posterior, render, rollout
from taskbelief.api import Trained
from taskbelief.posterior import Belief, Posterior
from taskbelief.render import LabelBelief, Views
from taskbelief.rollout import Scripted
from taskbelief.types import (
    Array,
    Categories,
    Env,
    HasLikelihood,
    Key,
    Label,
    Momentary,
    Probabilities,
    Reals,
    Task,
    Teacher,
)

_GRID = 200  # points of a belief about a number
_DRAWS = 500  # from the posterior, of labels without an exact distribution


class Watched(NamedTuple):
    """One meta-episode of T steps in NumPy: the arguments of `render.still`."""

    env: Env
    task: Task
    states: Any  # [T + 1, ...]
    actions: np.ndarray
    rewards: np.ndarray
    beliefs: Belief | None  # [T + 1, ...], exact; None: the environment has no posterior
    labels: np.ndarray | None
    views: Views | None = None  # None: the agent has no belief


# ---- a trained agent --------------------------------------------------------------


def play_agent(trained: Trained, task: Task, key: Key) -> Watched:
    """Plays a meta-episode with a trained agent, which acts as at evaluation.

    The loop does not return the state after the last step; the state before it takes its place.
    """
    problem, agent, learner = (
        trained.trainer.problem.at_test(),
        trained.trainer.agent,
        trained.trainer.learner,
    )
    env, label = problem.env, problem.label
    exact = problem.posterior() if isinstance(env, HasLikelihood) else None

    def roll(params: Any, key: Key) -> Any:
        play_key, draw_key = jax.random.split(key)
        played = rollout.collect(
            problem.seen(agent.needs).env,
            jax.tree.map(lambda leaf: leaf[None], task),
            play_key,
            lambda carry, inputs, _: learner.act(params, carry, inputs, None),
            agent.initial_carry(1),
            Teacher(lambda carry, key, inputs, state, task: (carry, state)),
        )
        states = jax.tree.map(
            lambda leaf: jnp.concatenate([leaf[:, 0], leaf[-1:, 0]]), played.label.h
        )
        action, reward = played.action[:, 0], played.reward[:, 0]
        # an oracle's observations end with the label
        obs, reached = jax.tree.map(
            lambda leaf: leaf[:, 0, : problem.spec.obs_dim],
            (played.inputs.obs, played.inputs.reached),
        )
        beliefs = None if exact is None else posterior.along(exact, obs, action, reward, reached)
        views = None
        if agent.belief_log_prob is not None and agent.belief_mean is not None:
            log_prob, mean_of = agent.belief_log_prob, agent.belief_mean
            _, features = agent.unroll(params["agent"], agent.initial_carry(1), played.inputs, None)

            def of_label(h: Array) -> Array:
                """Returns log b(h) at each step, [T + 1], of labels [T + 1, ...]."""
                return log_prob(params["agent"], features, Label(h[:, None]))[:, 0]

            mean = mean_of(params["agent"], features)[:, 0]
            at = obs, states
            learned = _learned(of_label, mean, exact, at)
            known = truth = None
            if label.momentary is not None and not label.names_training_task:
                truth = _per_step(label.momentary, at, task)
                if exact is not None and isinstance(label.spec, Categories):
                    known = _known(exact, beliefs, at, draw_key)
            views = learned, known, truth
        return states, action, reward, beliefs, views

    def _learned(of_label: Any, mean: Array, exact: Posterior | None, at: Any) -> LabelBelief:
        if isinstance(label.spec, Categories):
            return LabelBelief(mean)
        if isinstance(label.spec, Reals) and exact is not None and label.exact is not None:
            assert label.momentary is not None
            momentary = label.momentary
            logs = jax.lax.map(lambda task: of_label(_per_step(momentary, at, task)), exact.tasks)
            return LabelBelief(mean, log_probs=jax.nn.log_softmax(logs.T))
        return LabelBelief(mean, *_interval(of_label, mean, label.spec))

    def _known(exact: Posterior, beliefs: Belief, at: Any, key: Key) -> LabelBelief:
        """Returns the exact probabilities of the label's classes, or frequencies among draws."""
        if label.exact is not None:
            return LabelBelief(label.exact.expected(exact, beliefs, at[0]))
        momentary, spec = label.momentary, label.spec
        assert momentary is not None and isinstance(spec, Categories)

        def draw(key: Key) -> Array:
            keys = jax.random.split(key, len(at[0]))
            tasks = jax.vmap(exact.sample)(beliefs, keys)
            h = jax.vmap(momentary, in_axes=(None, 0, 0, 0))(key, *at, tasks)
            return jax.nn.one_hot(h, spec.classes)

        return LabelBelief(jnp.mean(jax.lax.map(draw, jax.random.split(key, _DRAWS)), axis=0))

    found = jax.tree.map(_plain, jax.jit(roll)(trained.params, key))
    states, action, reward, beliefs, views = found
    if views is not None:
        views = Views(trained.config.label, label.spec, *views)
    labels = None if exact is None or exact.labels is None else np.asarray(exact.labels)
    return Watched(env, task, states, action, reward, beliefs, labels, views)


def _per_step(momentary: Momentary, at: tuple[Array, Any], task: Task) -> Array:
    """Returns the label of `task` at each step, [T + 1, ...]; `at`: observations and states."""
    each = jax.vmap(momentary, in_axes=(None, 0, 0, None))
    return each(jax.random.key(0), *at, task)


def _interval(of_label: Any, mean: Array, spec: Probabilities | Reals) -> tuple[Array, Array]:
    """Returns the central 90 % of each number of a label, [T + 1, num] each. The numbers are
    independent under a belief: one at a time varies over a grid, the others are at their means."""
    share = (jnp.arange(_GRID) + 0.5) / _GRID
    if isinstance(spec, Reals):
        centre, scale = jnp.asarray(spec.centre), jnp.asarray(spec.scale)
        grid = centre + scale * (8.0 * share[:, None] - 4.0)  # [points, num]
    else:
        grid = jnp.broadcast_to(share[:, None], (_GRID, spec.num))

    def of_number(number: Array) -> tuple[Array, Array]:
        points = grid[:, number]
        logs = jax.lax.map(lambda point: of_label(mean.at[:, number].set(point)), points)
        below = jnp.cumsum(jax.nn.softmax(logs, axis=0), axis=0)  # [points, T + 1]
        return points[jnp.argmax(below >= 0.05, axis=0)], points[jnp.argmax(below >= 0.95, axis=0)]

    low, high = jax.lax.map(of_number, jnp.arange(spec.num))
    return low.T, high.T


def _plain(leaf: Array) -> np.ndarray:
    """Converts a leaf to NumPy, which has no random keys."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


# ---- a scripted policy ------------------------------------------------------------


def play(env: Env, policy: Scripted, task: Task, key: Key) -> Any:
    """Plays a meta-episode with a scripted policy; returns (labels of the hypotheses, (states [T +
    1], actions, rewards [T], beliefs [T + 1])), in NumPy; beliefs and labels are None where there
    is no posterior."""
    exact = posterior.make(env) if isinstance(env, HasLikelihood) else None
    spec = env.spec

    @jax.jit
    def roll(key: Key) -> Any:
        reset_key, scan_key = jax.random.split(key)
        obs, state = env.reset(reset_key, task)
        own, belief = policy.init(obs), None if exact is None else exact.init(obs)

        def step(carry: Any, now: tuple[Array, Key]) -> tuple[Any, Any]:
            obs, state, own, belief = carry
            t, key = now
            act_key, step_key, again_key = jax.random.split(key, 3)
            action = policy.act(own, act_key, state, task)
            next_obs, after, reward, _ = env.step(step_key, state, action, task)
            own = policy.observe(own, obs, action, reward, next_obs)
            if exact is not None:
                belief = exact.update(belief, obs, action, reward, next_obs)
            again = (t + 1) % spec.episode_steps == 0
            next_obs, after = jax.tree.map(
                lambda new, old: jnp.where(again & (t + 1 < spec.task_steps), new, old),
                env.reset(again_key, task),
                (next_obs, after),
            )
            return (next_obs, after, own, belief), (after, action, reward, belief)

        steps = jnp.arange(spec.task_steps), jax.random.split(scan_key, spec.task_steps)
        _, (states, actions, rewards, beliefs) = jax.lax.scan(
            step, (obs, state, own, belief), steps
        )
        states, beliefs = jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]),
            (state, belief),
            (states, beliefs),
        )
        return states, actions, rewards, beliefs

    labels = None if exact is None else exact.labels
    return jax.tree.map(_plain, (labels, roll(key)))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.watch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, nargs="?", help="directory of a run or a saved agent")
    parser.add_argument(
        "--run-seed", type=int, help="which of the run's seeds (default: the first)"
    )
    parser.add_argument("--env", help="environment of a scripted policy")
    parser.add_argument("--policy", default="explorer", help="random, expert, explorer, ...")
    parser.add_argument("--out", type=Path, help=".gif or .png (default: film.gif in the run)")
    parser.add_argument("--task", type=int, default=0, help="which of the hold-out tasks")
    parser.add_argument("--seed", type=int, default=0, help="of everything random in the play")
    parser.add_argument("--step", type=int, help="which step a .png shows (default: the last)")
    parser.add_argument("--every", type=int, default=1, help="steps per frame of a .gif")
    arguments = parser.parse_args()
    if (arguments.run is None) == (arguments.env is None):
        parser.error("name either a RUN or an --env")
    out = arguments.out or (arguments.run and arguments.run / "film.gif")
    if out is None or out.suffix not in (".gif", ".png"):
        parser.error(f"--out {out}: must end in .gif or .png")
    key = jax.random.key(arguments.seed)
    if arguments.run is not None:
        with stop.sentences():
            trained = taskbelief.load(arguments.run, arguments.run_seed)
        env, chosen = trained.env, trained.config
        title = f"{chosen.env_name}, {chosen.agent_name}, {chosen.learner_name}"
        watched = play_agent(trained, _task(parser, env, arguments.task), key)
    else:
        try:
            env = taskbelief.make(arguments.env)
        except ValueError as error:
            parser.error(f"--env: {error}")
        names = explorer.names(env)
        if arguments.policy not in names:
            parser.error(f"--policy {arguments.policy}: {arguments.env} has {', '.join(names)}")
        title = f"{arguments.env}, {arguments.policy}"
        task = _task(parser, env, arguments.task)
        labels, history = play(env, explorer.make(env, arguments.policy), task, key)
        states, actions, rewards, beliefs = history
        watched = Watched(env, task, states, actions, rewards, beliefs, labels)
    steps = len(watched.rewards)
    if out.suffix == ".png":
        step = steps if arguments.step is None else arguments.step
        if not 0 <= step <= steps:
            parser.error(f"--step {step}: must be from 0 to {steps}")
        Image.fromarray(render.still(*watched, title=title, step=step)).save(out)
        print(f"{out}: step {step} of {steps}")
        return
    # few colours without dithering: small files, and no flicker
    frames = [
        Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE)
        for frame in render.film(*watched, title=title, every=arguments.every)
    ]
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=100, loop=0)
    print(f"{out}: {len(frames)} frames, return {float(watched.rewards.sum()):.2f}")


def _task(parser: argparse.ArgumentParser, env: Env, number: int) -> Task:
    tasks = env.task_set("holdout")
    if not 0 <= number < rollout.batch_size(tasks):
        parser.error(f"--task {number}: must be from 0 to {rollout.batch_size(tasks) - 1}")
    return jax.tree.map(lambda leaf: leaf[number], tasks)


if __name__ == "__main__":
    main()
