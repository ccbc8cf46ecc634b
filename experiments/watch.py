"""A meta-episode as a film: the arena, the ball's trail, reward, and the exact posterior.

    python -m experiments.watch --env numpad --policy expert --out numpad.gif
    python -m experiments.watch --env semicircle --policy explorer --step 40 --out one.png

A .gif shows the whole meta-episode, a .png one step (the last, unless --step says which).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import taskbelief
from taskbelief import explorer, posterior, render
from taskbelief.rollout import Scripted
from taskbelief.types import Array, Env, Key, Task


def play(env: Env, policy: Scripted, task: Task, key: Key) -> Any:
    """(states [T + 1], actions, rewards [T], beliefs [T + 1]) of one meta-episode, in NumPy."""
    exact = posterior.make(env)
    spec = env.spec

    @jax.jit
    def roll(key: Key) -> Any:
        reset_key, scan_key = jax.random.split(key)
        obs, state = env.reset(reset_key, task)
        own, belief = policy.init(obs), exact.init(obs)

        def step(carry: Any, now: tuple[Array, Key]) -> tuple[Any, Any]:
            obs, state, own, belief = carry
            t, key = now
            act_key, step_key, again_key = jax.random.split(key, 3)
            action = policy.act(own, act_key, state, task)
            next_obs, after, reward, _ = env.step(step_key, state, action, task)
            own = policy.observe(own, obs, action, reward, next_obs)
            belief = exact.update(belief, obs, action, reward, next_obs)
            again = (t + 1) % spec.episode_steps == 0
            next_obs, after = jax.tree.map(
                lambda new, old: jax.numpy.where(again & (t + 1 < spec.task_steps), new, old),
                env.reset(again_key, task),
                (next_obs, after),
            )
            return (next_obs, after, own, belief), (after, action, reward, belief)

        steps = jax.numpy.arange(spec.task_steps), jax.random.split(scan_key, spec.task_steps)
        _, (states, actions, rewards, beliefs) = jax.lax.scan(
            step, (obs, state, own, belief), steps
        )
        states, beliefs = jax.tree.map(
            lambda first, rest: jax.numpy.concatenate([first[None], rest]),
            (state, belief),
            (states, beliefs),
        )
        return states, actions, rewards, beliefs

    return exact.labels, jax.tree.map(np.asarray, roll(key))


def main() -> None:
    parser = argparse.ArgumentParser(description="A meta-episode as a film or a picture.")
    parser.add_argument("--env", choices=taskbelief.environments(), required=True)
    parser.add_argument("--policy", default="explorer", help="random, expert, explorer, ...")
    parser.add_argument("--out", type=Path, required=True, help=".gif or .png")
    parser.add_argument("--task", type=int, default=0, help="which of the hold-out tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, help="which step a .png shows (default: the last)")
    parser.add_argument("--every", type=int, default=1, help="steps per frame of a .gif")
    arguments = parser.parse_args()
    if arguments.out.suffix not in (".gif", ".png"):
        parser.error(f"--out {arguments.out}: must end in .gif or .png")
    env = taskbelief.make(arguments.env)
    names = explorer.names(env)
    if arguments.policy not in names:
        parser.error(f"--policy {arguments.policy}: {arguments.env} has {', '.join(names)}")
    tasks = env.task_set("holdout")
    task = jax.tree.map(lambda leaf: leaf[arguments.task], tasks)
    labels, (states, actions, rewards, beliefs) = play(
        env, explorer.make(env, arguments.policy), task, jax.random.key(arguments.seed)
    )
    if labels is not None:
        labels = np.asarray(labels)
    whole = env, task, states, actions, rewards, beliefs, labels
    title = f"{arguments.env}, {arguments.policy}"
    if arguments.out.suffix == ".png":
        t = len(rewards) if arguments.step is None else arguments.step
        Image.fromarray(render.still(*whole, title=title, step=t)).save(arguments.out)
        return
    # a few plain colours: small files, and no flicker of dithering
    frames = [
        Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE)
        for frame in render.film(*whole, title=title, every=arguments.every)
    ]
    frames[0].save(arguments.out, save_all=True, append_images=frames[1:], duration=100, loop=0)
    print(f"{arguments.out}: {len(frames)} frames, return {float(rewards.sum()):.2f}")


if __name__ == "__main__":
    main()
