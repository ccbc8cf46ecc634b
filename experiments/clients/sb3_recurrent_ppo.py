"""sb3-contrib's RecurrentPPO (LSTM), through `taskbelief.adapters.sb3`.

    python -m experiments.clients.sb3_recurrent_ppo --env bandit --seed 0

It uses only documented arguments of RecurrentPPO, the same for all environments.
"""

from __future__ import annotations

import torch
from sb3_contrib import RecurrentPPO

from experiments.clients import common
from taskbelief.adapters import sb3

ENVS = 32


def main() -> None:
    args = common.arguments("sb3-contrib RecurrentPPO")
    torch.set_num_threads(1)
    env = sb3.make_vec(args.env, ENVS, **common.ENVS[args.env])
    model = RecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=100,  # a whole meta-episode
        batch_size=800,
        n_epochs=4,
        learning_rate=1e-3,
        gamma=0.95,
        gae_lambda=0.9,
        ent_coef=0.01,
        policy_kwargs={
            "lstm_hidden_size": 64,
            "net_arch": [64],
            "shared_lstm": True,
            "enable_critic_lstm": False,
        },
        seed=args.seed,
        device="cpu",
    )
    watch = common.Watch()
    model.learn(args.steps)
    watch.stop()

    memory = None

    def act(obs, starts):
        nonlocal memory
        actions, memory = model.predict(obs, memory, starts, deterministic=True)
        return actions

    returns = common.played(common.test_env(args.env), act)
    common.row("sb3-contrib RecurrentPPO", args, returns, model.num_timesteps, watch)


if __name__ == "__main__":
    main()
