"""SVG(0): off-policy actor-critic on recurrent features (Heess et al. 2015).

The actor ascends E[Q(s, pi(s, noise))] by the reparameterised gradient; the critic learns by
Retrace (Munos et al. 2016) towards a target network. The cost of an
entropy bonus is adapted so that the mean entropy stays at a target (Haarnoja et al. 2018), because
the scale of Q grows by orders of magnitude while an agent learns to infer its task. For
discrete actions the expectation over actions is exact.

The target network is of the heads alone, on the agent's current features: with features of a
target agent, numpad made 7,500 steps/s in place of 9,700 on two cores and learnt no better on
tuning seeds (experiments/notes/svg0.md).

The critic may read the hidden task (`privileged`). Actor and critic are normalised before each
ReLU. The agent, the actor and the critic have an optimiser and a maximum gradient norm each,
because the gradients of a precise belief are larger than the policy's by orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rlax
from flax import nnx

from taskbelief.learners import _features
from taskbelief.networks import MLP, functional, heads
from taskbelief.problem import Problem
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Carry,
    EnvSpec,
    Key,
    Learner,
    Metrics,
    Needs,
    Params,
    Trajectory,
)


@dataclass(frozen=True)
class Config:
    actor_hidden: int = 64
    """units of each of the actor's two hidden layers"""
    critic_hidden: int = 64
    """units of each of the critic's two hidden layers"""
    gamma: float = 0.97
    """discount per step"""
    lambda_: float = 0.9
    """decay of the Retrace traces"""
    bootstrap_at_task_end: bool = True
    """whether the return continues beyond the last step, by the value of the last state"""
    action_samples: int = 4
    """reparameterised actions per step in E[Q] (continuous actions)"""
    entropy_cost: float = 0.01
    """initial weight of the policy entropy in the actor's loss, in reward units per nat"""
    entropy_target: float | None = None
    """target of the policy entropy, in nats; None: minus the dimension of a continuous action, 0.7
    of the uniform policy's entropy for a discrete action"""
    entropy_start: float | None = None
    """target at the start of training, in nats, which changes linearly to entropy_target; None:
    entropy_target throughout"""
    entropy_share: float = 0.5
    """share of training after which entropy_start has become entropy_target"""
    entropy_rate: float = 0.01
    """change of log entropy_cost per update and per nat of deviation from the target; 0: a fixed
    cost"""
    actor_weight: float = 1.0
    """weight of the actor's loss beside the critic's"""
    privileged: bool = True
    """whether the critic reads the hidden task in training (its description, and the goal where
    that is of another family), in addition to the history; the policy never does"""
    learning_rate: float = 3e-3
    """learning rate of Adam"""
    learning_rate_end: float = 0.1
    """share of the learning rate at the end of training (linear decay)"""
    max_gradient_norm: float = 1.0
    """maximum norm of the gradients of agent, actor and critic, each"""
    target_rate: float = 0.02
    """step size of the target network's moving average of the critic's parameters (Polyak)"""

    @property
    def needs(self) -> Needs:
        return Needs(privileged=self.privileged)


def retrace(
    q: Array,
    value_next: Array,
    reward: Array,
    discount: Array,
    log_ratio: Array,
    *,
    lambda_: float,
) -> Array:
    """Returns Retrace targets for Q(x_t, a_t), [T, B] (Munos et al. 2016, eq. 4 with eq. 9's c).

      G_t = r_t + d_t [V_{t+1} + c_{t+1} (G_{t+1} - Q_{t+1})],  c = lambda min(1, pi / mu)

    Args:
      q: [T, B], Q(x_t, a_t) of the target network.
      value_next: [T, B], V(x_{t+1}) = E_{a ~ pi} Q(x_{t+1}, a) of the target network.
      reward, discount: [T, B].
      log_ratio: [T, B], log pi(a_t | x_t) - log mu(a_t | x_t).
      lambda_: decay of the traces.
    """
    trace = lambda_ * jnp.minimum(1.0, jnp.exp(log_ratio))
    per_stream = jax.vmap(rlax.general_off_policy_returns_from_q_and_v, in_axes=1, out_axes=1)
    targets = per_stream(q[1:], value_next, reward, discount, trace[1:])
    return jax.lax.stop_gradient(targets)


class LearnerState(NamedTuple):
    params: Params
    target: Params  # of the heads
    optimiser: optax.OptState
    log_entropy_cost: Array  # []
    updates: Array  # [] int32: made so far


class _Heads(nnx.Module):
    def __init__(self, spec: EnvSpec, sizes: tuple[int, int], config: Config, *, rngs: nnx.Rngs):
        action = heads.action_head(spec.action)
        width = config.actor_hidden
        layers = [sizes[0], width, width, action.num_params]
        self.actor = MLP(layers, rngs=rngs, last_scale=0.01, normalised=True)
        self.critic = action.q_network(sizes[1], [config.critic_hidden] * 2, rngs=rngs)

    def policy(self, features: Array) -> Array:
        return self.actor(features)

    def value(self, features: Array) -> heads.ActionValue:
        return self.critic.value(features)


def make(
    problem: Problem, agent: Agent, config: Config = Config(), total_updates: int = 1
) -> Learner:
    """Returns the learner for `agent`; `total_updates` is the length of its schedules.

    Raises:
      ValueError: the agent learns from single transitions (PEARL).
    """
    _features.check_history(agent, "svg0")
    spec = problem.seen(agent.needs).spec
    privileged = problem.privileged() if config.privileged else None
    action_head = heads.action_head(spec.action)
    sizes = _features.sizes(spec, agent, privileged)
    network = functional(lambda rngs: _Heads(spec, sizes, config, rngs=rngs))
    schedule = optax.linear_schedule(
        config.learning_rate, config.learning_rate * config.learning_rate_end, total_updates
    )
    end = config.entropy_target
    if end is None:
        end = action_head.usual_entropy
    start = end if config.entropy_start is None else config.entropy_start
    entropy_target = optax.linear_schedule(
        start, end, max(1, round(config.entropy_share * total_updates))
    )
    each = optax.chain(optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(schedule))
    optimiser = optax.partition(
        {"agent": each, "actor": each, "critic": each},
        {"agent": "agent", "heads": {"actor": "actor", "critic": "critic"}},
    )

    def init(key: Key) -> LearnerState:
        agent_key, heads_key = jax.random.split(key)
        params = {"agent": agent.init(agent_key), "heads": network.init(heads_key)}
        return LearnerState(
            params,
            # A copy, because the trainer donates its state, and a buffer can be donated only once.
            jax.tree.map(jnp.copy, params["heads"]),
            optimiser.init(params),
            jnp.asarray(np.log(config.entropy_cost), jnp.float32),
            jnp.zeros((), jnp.int32),
        )

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

    def loss(
        params: Params, target: Params, entropy_cost: Array, batch: Trajectory, key: Key
    ) -> tuple[Array, Metrics]:
        unroll_key, value_key, actor_key = jax.random.split(key, 3)
        carry = agent.initial_carry(batch.reward.shape[1])
        _, features = agent.unroll(params["agent"], carry, batch.inputs, unroll_key)
        features = features._replace(critic=heads.with_task(features.critic, privileged, batch))
        policy = network.apply(params["heads"], features.actor, method="policy")  # [T + 1, B, .]

        # Critic: Retrace with the target network, under the current policy.
        now = jax.tree.map(lambda leaf: leaf[:-1], features)
        q_value = network.apply(params["heads"], now.critic, method="value")
        q = q_value.at(batch.action)
        fixed = jax.lax.stop_gradient((policy, features.critic))
        targets, log_ratio = _targets(target, fixed, batch, value_key)
        critic_loss = 0.5 * jnp.mean(jnp.square(targets - q))

        # Actor: SVG(0); the gradient passes through the critic but does not train it.
        frozen = jax.lax.stop_gradient((params["heads"], now.critic))
        q_frozen = network.apply(*frozen, method="value")
        value, entropy = action_head.expect(policy[:-1], q_frozen, actor_key, config.action_samples)
        actor_loss = -jnp.mean(value + entropy_cost * entropy)

        aux_loss, aux_metrics = agent.aux_loss(params["agent"], now, batch.label)
        total = critic_loss + config.actor_weight * actor_loss + aux_loss + jnp.mean(now.loss)
        return total, {
            "loss": total,
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "entropy": jnp.mean(entropy),
            "q": jnp.mean(q),
            "q_target": jnp.mean(targets),
            "trace": jnp.mean(jnp.minimum(1.0, jnp.exp(log_ratio))),
            **aux_metrics,
        }

    def _targets(
        target: Params, fixed: tuple[Array, Array], batch: Trajectory, key: Key
    ) -> tuple[Array, Array]:
        """Returns Retrace targets and log importance ratios, [T, B] each; `fixed`: policy and the
        critic's features, [T + 1, B, ...] each, without gradients."""
        policy, features = fixed
        log_ratio = action_head.log_prob(policy[:-1], batch.action) - batch.log_prob
        value = network.apply(target, features, method="value")
        expected, _ = action_head.expect(policy, value, key, config.action_samples)
        # The last step gets some action, without effect, which saves a second value network.
        q_now = value.at(jnp.concatenate([batch.action, batch.action[-1:]]))[:-1]
        targets = retrace(
            q_now,
            expected[1:],
            batch.learning_reward,
            batch.discounts(config.gamma, bootstrap=config.bootstrap_at_task_end),
            log_ratio,
            lambda_=config.lambda_,
        )
        return targets, log_ratio

    def update(state: LearnerState, batch: Trajectory, key: Key) -> tuple[LearnerState, Metrics]:
        entropy_cost = jnp.exp(state.log_entropy_cost)
        gradient, metrics = jax.grad(loss, has_aux=True)(
            state.params, state.target, entropy_cost, batch, key
        )
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        step, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, step)
        target = optax.incremental_update(params["heads"], state.target, config.target_rate)
        lacking = entropy_target(state.updates) - metrics["entropy"]
        log_entropy_cost = state.log_entropy_cost + config.entropy_rate * lacking
        metrics["entropy_cost"] = entropy_cost
        updates = state.updates + 1
        return LearnerState(params, target, optimiser_state, log_entropy_cost, updates), metrics

    return Learner(init, act, update, config.needs)
