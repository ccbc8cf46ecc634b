"""Trains this library's agents with the "cpu" presets, for as many steps as the others.

python -m experiments.clients.ours --agent belief --learner svg0 --env bandit --seed 0
"""

from __future__ import annotations

import argparse

import jax
import numpy as np

import taskbelief
from experiments.clients import common


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--agent", default="belief")
    parser.add_argument("--learner", default="svg0")
    ours, rest = parser.parse_known_args()
    args = common.arguments("our own agents", rest)
    watch = common.Watch()
    trained = taskbelief.train(
        args.env,
        ours.agent,
        ours.learner,
        steps=args.steps,
        seed=args.seed,
        preset="cpu",
        **common.settings_of(args.env),
    )
    jax.block_until_ready(trained.params)
    watch.stop()
    env = common.test_env(args.env)
    reward = trained.rollout(common.holdout(env), jax.random.key(0)).reward
    client = f"ours: {ours.agent}, {ours.learner}"
    common.row(client, args, np.asarray(reward).sum(axis=0), args.steps, watch)


if __name__ == "__main__":
    main()
