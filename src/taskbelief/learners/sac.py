"""SAC: off-policy actor-critic on transitions of several tasks at a time (Haarnoja et al. 2018,
arXiv 1801.01290), for agents that infer the task from a set of transitions (PEARL).

As in PEARL's published code (github.com/katerakelly/oyster): two action values, and a state value
with a target network; an entropy bonus of a fixed cost; one reparameterised action; fresh noise at
every step; targets at the observation before a reset; an optimiser for each network. An update
takes some tasks; of each it infers the latent from a context of the task's latest meta-episode,
and learns from transitions of the task's whole history (_by_task.py). Running out of time is no
end. The published rewards are a hundred times ours: entropy costs 1 there and would 0.01 here.

Not as published, so that a run takes minutes on one core:

- 16 tasks with 16 transitions each in an update (256 each), networks of two layers of 64 units
  (three of 300), layer normalisation before each ReLU and a limit on each gradient's norm. As many
  updates for the same time count for more than large ones.
- A learning rate of 1e-3 that decays, and 0.01 for the target network (3e-4 and 0.005), which go
  with tens of thousands of updates in place of hundreds of thousands.
- Entropy costs 0.02: goals beside those that are found already are hit sooner by chance.
- No penalties on the policy's parameters, whose weight here would be 1e-5.
- Tasks are played in turn (drawn at random), so that all have equally recent contexts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from taskbelief.learners import _by_task, _features
from taskbelief.learners._by_task import Sample
from taskbelief.networks import MLP, functional, heads
from taskbelief.networks.heads import ActionValue
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Carry,
    EnvSpec,
    Key,
    Label,
    Learner,
    Metrics,
    Needs,
    Params,
)


@dataclass(frozen=True)
class Config:
    transitions: int = 16
    """of each task in an update, to learn from (published: 256); train.batch is the number of
    tasks (published: 16)"""
    actor_hidden: int = 64
    """units of each of the actor's two hidden layers"""
    critic_hidden: int = 64
    """units of each of two hidden layers, of each value"""
    gamma: float = 0.9
    """discount per step"""
    entropy_cost: float = 0.02
    """reward units per nat of policy entropy (published: 1, with rewards a hundred times as
    large)"""
    learning_rate: float = 1e-3
    """of Adam (published: 3e-4)"""
    learning_rate_end: float = 0.1
    """share of the learning rate left when training ends (linear decay)"""
    max_gradient_norm: float = 1.0
    """the gradient of each network is scaled down to this norm"""
    target_rate: float = 0.01
    """share of the state value that moves into its target network each update (published: 0.005)"""

    @property
    def needs(self) -> Needs:
        return Needs()


class LearnerState(NamedTuple):
    params: Params
    target: Params  # of all heads; the state value's is read
    optimiser: optax.OptState


class _Heads(nnx.Module):
    def __init__(self, spec: EnvSpec, sizes: tuple[int, int], config: Config, *, rngs: nnx.Rngs):
        action = heads.action_head(spec.action)
        unseen, width = [config.critic_hidden] * 2, config.actor_hidden
        layers = [sizes[0], width, width, action.num_params]
        self.actor = MLP(layers, rngs=rngs, last_scale=0.01, normalised=True)
        self.first = action.q_network(sizes[1], unseen, rngs=rngs)
        self.second = action.q_network(sizes[1], unseen, rngs=rngs)
        self.value = MLP([sizes[1], *unseen, 1], rngs=rngs, last_scale=0.1, normalised=True)

    def policy(self, features: Array) -> Array:
        return self.actor(features)

    def action_values(self, features: Array) -> tuple[ActionValue, ActionValue]:
        return self.first.value(features), self.second.value(features)

    def state_value(self, features: Array) -> Array:
        return self.value(features)[..., 0]


def make(
    problem: Problem, agent: Agent, config: Config = Config(), total_updates: int = 1
) -> Learner:
    """The learner for `agent`; `total_updates` is the length of its schedules.

    Raises:
      ValueError: the agent does not infer its task from single transitions.
    """
    if agent.infer_offline is None:
        raise ValueError(
            "sac learns from single transitions and goes with pearl alone, which infers its task"
            " from those; svg0 and ppo fit this agent"
        )
    infer = agent.infer_offline
    env = problem.seen(agent.needs).env
    action_head = heads.action_head(env.spec.action)
    sizes = _features.sizes(env.spec, agent, None)
    network = functional(lambda rngs: _Heads(env.spec, sizes, config, rngs=rngs))
    schedule = optax.linear_schedule(
        config.learning_rate, config.learning_rate * config.learning_rate_end, total_updates
    )
    each = optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(schedule))
    names = ("agent", "actor", "first", "second", "value")
    optimiser = optax.partition(
        dict.fromkeys(names, each), {"agent": "agent", "heads": {name: name for name in names[1:]}}
    )
    num_tasks = len(jax.tree.leaves(env.task_set("train"))[0])
    replay = _by_task.replay(num_tasks, config.transitions, agent.context, env.spec.episode_steps)

    def init(key: Key) -> LearnerState:
        agent_key, heads_key = jax.random.split(key)
        params = {"agent": agent.init(agent_key), "heads": network.init(heads_key)}
        # a copy: the trainer donates its state, and no buffer may be donated twice
        return LearnerState(params, jax.tree.map(jnp.copy, params["heads"]), optimiser.init(params))

    def act(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Array, Array]:
        unroll_key, sample_key = (None, None) if key is None else jax.random.split(key)
        carry, features = agent.unroll(params["agent"], carry, inputs, unroll_key)
        policy = network.apply(params["heads"], features.actor[0], method="policy")
        if sample_key is None:
            action = action_head.mode(policy)
        else:
            action = action_head.sample(policy, sample_key)
        return carry, action, action_head.log_prob(policy, action)

    def loss(params: Params, target: Params, sample: Sample, key: Key) -> tuple[Array, Metrics]:
        infer_key, actor_key = jax.random.split(key)
        batch = sample.batch
        # one hypothesis for both: it is worth what follows under itself
        obs = jnp.concatenate([batch.obs, batch.next_obs])
        features = infer(params["agent"], sample.context, obs, infer_key)
        now, after = (
            jax.tree.map(lambda leaf, half=half: jnp.split(leaf, 2)[half], features)
            for half in (0, 1)
        )

        # action values, which train the agent
        next_value = network.apply(target, after.critic, method="state_value")
        targets = batch.learning_reward + config.gamma * (1.0 - batch.terminated) * next_value
        targets = jax.lax.stop_gradient(targets)
        found = network.apply(params["heads"], now.critic, method="action_values")
        critic_loss = sum(0.5 * jnp.mean(jnp.square(targets - q.at(batch.action))) for q in found)

        # actor, through the lower of both as they stand, but not into them
        frozen = jax.lax.stop_gradient((params["heads"], now.critic))
        first, second = network.apply(*frozen, method="action_values")
        lower = ActionValue(
            lambda action: jnp.minimum(first.at(action), second.at(action)),
            lambda: jnp.minimum(first.each(), second.each()),
        )
        policy = network.apply(params["heads"], now.actor, method="policy")
        expected, entropy = action_head.expect(policy, lower, actor_key, 1)
        soft = expected + config.entropy_cost * entropy
        actor_loss = -jnp.mean(soft)

        # state value
        value = network.apply(params["heads"], frozen[1], method="state_value")
        value_loss = 0.5 * jnp.mean(jnp.square(jax.lax.stop_gradient(soft) - value))

        aux_loss, aux_metrics = agent.aux_loss(params["agent"], now, Label(()))
        total = critic_loss + actor_loss + value_loss + aux_loss + jnp.mean(now.loss)
        return total, {
            "loss": total,
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "value_loss": value_loss,
            "entropy": jnp.mean(entropy),
            "q": jnp.mean(expected),
            "q_target": jnp.mean(targets),
            **aux_metrics,
        }

    def update(state: LearnerState, sample: Sample, key: Key) -> tuple[LearnerState, Metrics]:
        gradient, metrics = jax.grad(loss, has_aux=True)(state.params, state.target, sample, key)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        step, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, step)
        target = optax.incremental_update(params["heads"], state.target, config.target_rate)
        return LearnerState(params, target, optimiser_state), metrics

    return Learner(init, act, update, config.needs, replay=replay)
