"""Trains other projects' agents on a bandit with 3 arms, each as its documentation describes.

    python -m experiments.clients.others              all that are installed
    python -m experiments.clients.others rejax skrl   these

Most have no memory. With the previous arm and its reward in the observation they can still learn
to stay with an arm that wins and to leave one that does not, which is better than chance: 50 of
100 pulls. Each line reports the mean return over the last meta-episodes, or over new ones.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections.abc import Callable

import numpy as np

STEPS = 51_200
ENVS = 16
ARMS = 3


def sb3() -> float:
    """Stable-Baselines3's PPO."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    from taskbelief.adapters import sb3 as adapter

    env = VecMonitor(adapter.make_vec("bandit", ENVS, arms=ARMS))
    model = PPO("MlpPolicy", env, n_steps=200, batch_size=400, learning_rate=1e-3, gamma=0.9,
                n_epochs=4, seed=0, device="cpu")  # fmt: skip
    model.learn(STEPS)
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def sb3_single() -> float:
    """The same, on environments that Stable-Baselines3 makes by Gymnasium's id."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    import taskbelief.adapters.gymnasium  # noqa: F401

    assert "taskbelief/Bandit-v0" in gymnasium.registry
    env = make_vec_env("taskbelief/Bandit-v0", 4, env_kwargs={"arms": ARMS})
    model = PPO("MlpPolicy", env, n_steps=400, batch_size=400, learning_rate=1e-3, gamma=0.9,
                n_epochs=4, seed=0, device="cpu")  # fmt: skip
    model.learn(STEPS // 2)
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def sbx() -> float:
    """sbx's PPO: Stable-Baselines3 in JAX."""
    from sbx import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    from taskbelief.adapters import sb3 as adapter

    env = VecMonitor(adapter.make_vec("bandit", ENVS, arms=ARMS))
    model = PPO("MlpPolicy", env, n_steps=200, batch_size=400, learning_rate=1e-3, gamma=0.9,
                n_epochs=4, seed=0)  # fmt: skip
    model.learn(STEPS)
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def skrl() -> float:
    """skrl's PPO."""
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.trainers.torch import SequentialTrainer
    from skrl.utils.model_instantiators.torch import categorical_model, deterministic_model
    from skrl.utils.spaces.torch import unflatten_tensorized_space  # noqa: F401

    from taskbelief.adapters import gymnasium

    env = wrap_env(gymnasium.make_vec("bandit", ENVS, arms=ARMS, autoreset_mode="SAME_STEP"))
    network = [{"name": "net", "input": "OBSERVATIONS", "layers": [64], "activations": "tanh"}]
    spaces = {
        "observation_space": env.observation_space,
        "action_space": env.action_space,
        "device": env.device,
        "network": network,
    }
    models = {
        "policy": categorical_model(**spaces, output="ACTIONS"),
        "value": deterministic_model(**spaces, output="ONE"),
    }
    cfg = PPO_CFG(rollouts=200, learning_epochs=4, mini_batches=8, discount_factor=0.9)
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    agent = PPO(
        models=models,
        memory=RandomMemory(memory_size=200, num_envs=ENVS, device=env.device),
        cfg=cfg,
        observation_space=env.observation_space,
        state_space=env.state_space,
        action_space=env.action_space,
        device=env.device,
    )
    SequentialTrainer(
        env=env,
        agents=agent,
        cfg={"timesteps": STEPS // ENVS, "disable_progressbar": True, "headless": True},
    ).train()
    agent.enable_training_mode(False)
    total, obs = 0.0, env.reset()[0]
    for step in range(100):
        actions, _ = agent.act(obs, None, timestep=step, timesteps=100)
        obs, reward, *_ = env.step(actions)
        total += float(reward.mean())
    return total


def torchrl() -> float:
    """torchrl's collector and PPO loss, on its own wrapper of the batch."""
    import torch
    from tensordict.nn import TensorDictModule
    from torch import nn
    from torch.distributions import Categorical
    from torchrl.collectors import Collector
    from torchrl.envs import GymWrapper
    from torchrl.modules import ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    from taskbelief.adapters import gymnasium

    torch.manual_seed(0)
    envs = gymnasium.make_vec("bandit", ENVS, arms=ARMS, autoreset_mode="SAME_STEP")
    size = envs.single_observation_space.shape[0]
    env = GymWrapper(envs, categorical_action_encoding=True)
    logits = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, ARMS))
    actor = ProbabilisticActor(
        TensorDictModule(logits, in_keys=["observation"], out_keys=["logits"]),
        in_keys=["logits"],
        distribution_class=Categorical,
        return_log_prob=True,
    )
    critic = ValueOperator(nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 1)))
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
    gae = GAE(gamma=0.9, lmbda=0.9, value_network=critic)
    optimizer = torch.optim.Adam(loss.parameters(), 2e-3)
    frames = 200 * ENVS
    collector = Collector(env, actor, frames_per_batch=frames, total_frames=STEPS)
    reward = 0.0
    for batch in collector:
        reward = float(batch["next", "reward"].mean())
        with torch.no_grad():
            gae(batch)
        rows = batch.reshape(-1)
        for _ in range(4):
            for part in torch.randperm(frames).split(400):
                found = loss(rows[part])
                optimizer.zero_grad()
                sum(v for k, v in found.items() if k.startswith("loss_")).backward()
                optimizer.step()
    collector.shutdown()
    return 100 * reward


def cleanrl() -> float:
    """A loop in the style of CleanRL: REINFORCE with a GRU, on Gymnasium's vector interface."""
    import gymnasium
    import torch
    from torch import nn

    import taskbelief.adapters.gymnasium  # noqa: F401

    torch.manual_seed(0)
    envs = gymnasium.make_vec("taskbelief/Bandit-v0", num_envs=64, arms=ARMS)
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    size = envs.single_observation_space.shape[0]
    core, head = nn.GRUCell(size, 32), nn.Linear(32, ARMS)
    optimizer = torch.optim.Adam([*core.parameters(), *head.parameters()], 5e-3)
    returns = []
    obs, _ = envs.reset(seed=0)
    for _ in range(STEPS // 6400):
        memory = torch.zeros(64, 32)
        log_probs, rewards = [], []
        for _ in range(100):
            memory = core(torch.as_tensor(obs), memory)
            chosen = torch.distributions.Categorical(logits=head(memory))
            action = chosen.sample()
            obs, reward, _, truncated, info = envs.step(action.numpy())
            log_probs.append(chosen.log_prob(action))
            rewards.append(torch.as_tensor(reward, dtype=torch.float32))
        assert truncated.all()
        returns.append(info["episode"]["r"].mean())
        obs, *_ = envs.step(action.numpy())  # NEXT_STEP: this step resets
        paid = torch.stack(rewards)
        value = torch.zeros(64)
        to_come = []
        for r in paid.flip(0):
            value = r + 0.9 * value
            to_come.append(value)
        advantage = torch.stack(to_come[::-1])
        advantage = advantage - advantage.mean(dim=1, keepdim=True)
        loss = -(torch.stack(log_probs) * advantage).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(returns[-1])


def rejax() -> float:
    """rejax's PPO, which calls `step` as in gymnax before 1.0."""
    import jax
    from rejax import PPO

    from taskbelief.adapters import gymnax

    env, params = gymnax.make("bandit", arms=ARMS, five_values=True)
    algo = PPO.create(env=env, env_params=params, total_timesteps=STEPS, eval_freq=STEPS,
                      num_envs=ENVS, num_steps=200, num_epochs=4, num_minibatches=8,
                      learning_rate=1e-3, gamma=0.9)  # fmt: skip
    _, (_, returns) = jax.jit(algo.train)(jax.random.PRNGKey(0))
    return float(returns[-1].mean())


def jaxnasium() -> float:
    """jaxnasium's PPO, through its wrapper of gymnax."""
    import jax
    from jaxnasium.algorithms import PPO
    from jaxnasium.wrappers import GymnaxWrapper

    from taskbelief.adapters import gymnax

    env = GymnaxWrapper(gymnax.make("bandit", arms=ARMS)[0])
    algo = PPO(total_timesteps=STEPS, num_envs=ENVS, num_steps=200, num_minibatches=8, gamma=0.9,
               learning_rate_start=1e-3, ent_coef_start=0.01, log_function=None)  # fmt: skip
    agent, _ = algo.train(jax.random.key(0), env)
    returns = agent.evaluate(
        jax.random.key(1), env, num_eval_episodes=64, deterministic_policy=False
    )
    return float(returns.mean())


def stoa() -> float:
    """stoa's adapter of gymnax with its auto-reset, under a random policy: it has no agents."""
    import jax
    from stoa.env_adapters.gymnax import GymnaxToStoa

    from taskbelief.adapters import gymnax

    env = GymnaxToStoa(*gymnax.make("bandit", arms=ARMS, five_values=True))
    actions = env.action_space()  # made outside: stoa's spaces cannot be made while tracing

    def play(key):
        state, _ = env.reset(key)

        def step(state, key):
            state, seen = env.step(state, actions.sample(key))
            return state, (seen.reward, seen.step_type)

        return jax.lax.scan(step, state, jax.random.split(key, 100))[1]

    keys = jax.random.split(jax.random.key(0), 256)
    reward, kind = jax.jit(jax.vmap(play))(keys)
    assert np.all(np.asarray(kind)[:, -1] != np.asarray(kind)[:, 0])  # the last is an end
    return float(reward.sum(axis=1).mean())


CLIENTS: dict[str, Callable[[], float]] = {
    client.__name__: client
    for client in (sb3, sb3_single, sbx, skrl, torchrl, cleanrl, rejax, jaxnasium, stoa)
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Other projects' agents on a bandit.")
    parser.add_argument("clients", nargs="*", choices=[[], *CLIENTS], help="all of them if none")
    chosen = parser.parse_args().clients or list(CLIENTS)
    warnings.simplefilter("ignore")
    failed = 0
    for name in chosen:
        began = time.process_time()
        try:
            reached = f"{CLIENTS[name]():.1f} of 100 (chance 50)"
        except ImportError as error:
            reached = f"not installed: {error}"
        except Exception as error:
            traceback.print_exc()
            reached, failed = f"FAILED: {type(error).__name__}: {error}", failed + 1
        seconds = time.process_time() - began
        print(f"{name:12s} {reached}, {seconds:.0f} s of a processor", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
