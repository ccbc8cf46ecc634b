"""memorax's PPO with GRUs, through `taskbelief.adapters.gymnax`.

    python -m experiments.clients.memorax_ppo --env bandit --seed 0

memorax 1.0.1 calls `step` as in gymnax before 1.0, which requires `five_values=True`.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from memorax.algorithms import PPO, PPOConfig
from memorax.networks import RNN, FeatureExtractor, Network, heads

from experiments.clients import common
from taskbelief.adapters import gymnax

ENVS, LENGTH = 32, 100  # parallel environments; steps of a whole meta-episode
TASKS = 256  # meta-episodes for the score, each on a task drawn from the hold-out set


def network(head: nn.Module) -> Network:
    return Network(
        feature_extractor=FeatureExtractor(
            observation_extractor=nn.Sequential((nn.Dense(64), nn.relu)),
        ),
        torso=RNN(cell=nn.GRUCell(features=64)),
        head=head,
    )


def main() -> None:
    args = common.arguments("memorax PPO-GRU")
    env, params = gymnax.make(args.env, five_values=True, **common.ENVS[args.env])
    num = env.num_actions
    discrete = hasattr(env.action_space(params), "n")
    config = PPOConfig(
        name="PPO",
        num_envs=ENVS,
        num_eval_envs=TASKS,
        num_steps=LENGTH,
        gamma=0.95,
        gae_lambda=0.9,
        num_minibatches=4,
        update_epochs=4,
        normalize_advantage=True,
        clip_coef=0.2,
        clip_vloss=False,
        ent_coef=0.01,
        vf_coef=0.5,
    )
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3))

    def agent(env, params):
        return PPO(
            cfg=config,
            env=env,
            env_params=params,
            actor_network=network(heads.Categorical(num) if discrete else heads.Gaussian(num)),
            critic_network=network(heads.VNetwork()),
            actor_optimizer=optimizer,
            critic_optimizer=optimizer,
        )

    learner = agent(env, params)
    watch = common.Watch()
    key, state = learner.init(jax.random.key(args.seed))
    key, state, _ = learner.train(key, state, args.steps)
    steps = int(jax.block_until_ready(state).step)
    watch.stop()

    examined = gymnax.make(common.test_env(args.env), tasks="holdout", five_values=True)
    _, transitions = agent(*examined).evaluate(key, state, LENGTH)
    reward = np.asarray(jnp.reshape(transitions.reward, (LENGTH, -1)))
    common.row("memorax PPO-GRU", args, reward.sum(axis=0), steps, watch)


if __name__ == "__main__":
    main()
