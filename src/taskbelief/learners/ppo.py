"""PPO: on-policy actor-critic on recurrent features (Schulman et al. 2017).

Clipped objective, clipped values, generalised advantage estimation (Schulman et al. 2016)
and an entropy bonus; minibatches are whole meta-episodes, so that every unroll starts from
the zero carry. A batch consists of meta-episodes of the current policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
    lambda_: float = 0.95
    """decay of the traces of generalised advantage estimation"""
    bootstrap_at_task_end: bool = True
    """whether the return continues beyond the last step, by the value of the last state"""
    epochs: int = 4
    """passes over each batch"""
    minibatches: int = 4
    """parts of the batch, of whole meta-episodes; one update each"""
    clip: float = 0.2
    """clip range of the probability ratio"""
    value_clip: float = 0.2
    """clip range of values, in standard deviations of the batch's returns; 0: no clipping"""
    value_weight: float = 0.5
    """weight of the critic's loss beside the actor's"""
    entropy_cost: float = 0.01
    """weight of a nat of policy entropy beside normalised advantages"""
    privileged: bool = True
    """whether the value function reads the hidden task in training (its description, and the goal
    where that is of another family), in addition to the history; the policy never does"""
    learning_rate: float = 1e-3
    """learning rate of Adam"""
    learning_rate_end: float = 0.1
    """share of the learning rate at the end of training (linear decay)"""
    max_gradient_norm: float = 0.5
    """maximum norm of the gradient of all parameters"""

    @property
    def needs(self) -> Needs:
        return Needs(on_policy=True, privileged=self.privileged)


# Added to standard deviations, against division by zero.
_TINY = 1e-6
# Largest logarithm of a probability ratio: exp overflows at 88, and a sum of squares at half of it.
_MAX_LOG_RATIO = 20.0


def normalise(advantage: Array) -> Array:
    """Returns (A - mean) / standard deviation, over all entries of `advantage`, of any shape.

    A customary step of PPO (not in Schulman et al. 2017): it makes the gradient independent
    of the scale of rewards.
    """
    return (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + _TINY)


def probability_ratio(log_ratio: Array) -> Array:
    """Returns exp(min(log r, 20)), of any shape, whose gradient is 0 above 20.

    The clipped objective is unbounded where an action of negative advantage becomes more probable.
    Without the limit, one such action of a nearly deterministic policy makes the gradient infinite
    [ours].
    """
    return jnp.exp(jnp.minimum(log_ratio, _MAX_LOG_RATIO))


def policy_loss(ratio: Array, advantage: Array, clip: float) -> Array:
    """-mean(min(r A, clamp(r, 1 - clip, 1 + clip) A)), []: Schulman et al. 2017, eq. 7, negated.

    Args:
      ratio: [T, B], r = pi(a | x) / mu(a | x), of the policy to the one that acted.
      advantage: [T, B], A; no gradient passes through it.
      clip: clip range of the ratio.
    """
    surrogate = partial(rlax.clipped_surrogate_pg_loss, epsilon=clip)
    return jnp.mean(jax.vmap(surrogate)(ratio, advantage))


def value_loss(value: Array, value_before: Array, target: Array, clip: float) -> Array:
    """mean(max((G - V)^2, (G - W)^2)) / (2 s^2), [], where s is the standard deviation of G and
    W = V_old + clamp(V - V_old, -clip s, clip s).

    The clipped value loss of OpenAI's baselines (Engstrom et al. 2020, section 3), in deviations
    of the returns, because their size differs by orders between environments [ours].

    Args:
      value: [T, B], V.
      value_before: [T, B], V_old, of the parameters that acted.
      target: [T, B], G.
      clip: clip range of values, in standard deviations of the targets; 0: no clipping.
    """
    error = jnp.square(target - value)
    scale = jnp.std(target) + _TINY
    if clip:
        reach = clip * scale
        near = value_before + jnp.clip(value - value_before, -reach, reach)
        error = jnp.maximum(error, jnp.square(target - near))
    return 0.5 * jnp.mean(error) / jnp.square(scale)


def lambda_returns(value: Array, reward: Array, discount: Array, *, lambda_: float) -> Array:
    """Returns targets for V(x_t), [T, B]: values plus generalised advantages (Schulman et al.
    2016).

    Args:
      value: [T + 1, B]; reward, discount: [T, B].
      lambda_: decay of the traces.
    """
    per_stream = jax.vmap(rlax.lambda_returns, in_axes=(1, 1, 1, None), out_axes=1)
    return jax.lax.stop_gradient(per_stream(reward, discount, value[1:], lambda_))


class LearnerState(NamedTuple):
    params: Params
    optimiser: optax.OptState


class _Heads(nnx.Module):
    def __init__(self, spec: EnvSpec, sizes: tuple[int, int], config: Config, *, rngs: nnx.Rngs):
        action = heads.action_head(spec.action)
        width = config.actor_hidden
        self.actor = MLP([sizes[0], width, width, action.num_params], rngs=rngs, last_scale=0.01)
        width = config.critic_hidden
        self.critic = MLP([sizes[1], width, width, 1], rngs=rngs, last_scale=0.1)

    def policy(self, features: Array) -> Array:
        return self.actor(features)

    def value(self, features: Array) -> Array:
        return self.critic(features)[..., 0]


def make(
    problem: Problem, agent: Agent, config: Config = Config(), total_updates: int = 1
) -> Learner:
    """Returns the learner for `agent`; `total_updates` is the length of the learning-rate schedule,
    in batches.

    Raises:
      ValueError: the agent's features are random (an information bottleneck): the probability
        ratio of an action would then be one of different features. Or the agent learns from
        single transitions (PEARL).
    """
    _features.check_history(agent, "ppo")
    if agent.stochastic:
        raise ValueError(
            "ppo does not go with an information bottleneck (agent.bottleneck_beta): the ratio of"
            " probabilities would be one of different features; svg0 does"
        )
    spec = problem.seen(agent.needs).spec
    privileged = problem.privileged() if config.privileged else None
    action_head = heads.action_head(spec.action)
    sizes = _features.sizes(spec, agent, privileged)
    network = functional(lambda rngs: _Heads(spec, sizes, config, rngs=rngs))
    passes = config.epochs * config.minibatches
    schedule = optax.linear_schedule(
        config.learning_rate,
        config.learning_rate * config.learning_rate_end,
        total_updates * passes,
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(config.max_gradient_norm), optax.adam(schedule, eps=1e-5)
    )

    def init(key: Key) -> LearnerState:
        agent_key, heads_key = jax.random.split(key)
        params = {"agent": agent.init(agent_key), "heads": network.init(heads_key)}
        return LearnerState(params, optimiser.init(params))

    def act(
        params: Params, carry: Carry, inputs: AgentInput, key: Key | None
    ) -> tuple[Carry, Array, Array]:
        carry, features = agent.unroll(params["agent"], carry, inputs, None)
        policy = network.apply(params["heads"], features.actor[0], method="policy")
        action = action_head.mode(policy) if key is None else action_head.sample(policy, key)
        return carry, action, action_head.log_prob(policy, action)

    def loss(
        params: Params, batch: Trajectory, value_before: Array, target: Array, key: Key
    ) -> tuple[Array, Metrics]:
        """`value_before`, `target`: [T, B]; advantages are their difference, normalised."""
        carry = agent.initial_carry(batch.reward.shape[1])
        inputs = jax.tree.map(lambda leaf: leaf[:-1], batch.inputs)
        _, features = agent.unroll(params["agent"], carry, inputs, None)
        policy = network.apply(params["heads"], features.actor, method="policy")

        log_ratio = action_head.log_prob(policy, batch.action) - batch.log_prob
        ratio = probability_ratio(log_ratio)
        actor_loss = policy_loss(ratio, normalise(target - value_before), config.clip)
        entropy = jnp.mean(action_head.entropy(policy, key))

        critic = heads.with_task(features.critic, privileged, batch)
        value = network.apply(params["heads"], critic, method="value")
        critic_loss = value_loss(value, value_before, target, config.value_clip)

        aux_loss, aux_metrics = agent.aux_loss(params["agent"], features, batch.label)
        total = (
            actor_loss
            + config.value_weight * critic_loss
            - config.entropy_cost * entropy
            + aux_loss
        )
        return total, {
            "loss": total,
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "entropy": entropy,
            "kl": jnp.mean(ratio - 1.0 - log_ratio),  # of the policy from the one that acted
            "clipped": jnp.mean(jnp.abs(ratio - 1.0) > config.clip),
            "value": jnp.mean(value),
            **aux_metrics,
        }

    def _targets(params: Params, batch: Trajectory) -> tuple[Array, Array]:
        """Returns values and lambda-returns under the parameters that acted, [T, B] each."""
        carry = agent.initial_carry(batch.reward.shape[1])
        _, features = agent.unroll(params["agent"], carry, batch.inputs, None)
        critic = heads.with_task(features.critic, privileged, batch)
        value = network.apply(params["heads"], critic, method="value")  # [T + 1, B]
        discount = batch.discounts(config.gamma, bootstrap=config.bootstrap_at_task_end)
        target = lambda_returns(value, batch.learning_reward, discount, lambda_=config.lambda_)
        return value[:-1], target

    def update(state: LearnerState, batch: Trajectory, key: Key) -> tuple[LearnerState, Metrics]:
        num = batch.reward.shape[1]
        if num % config.minibatches:
            raise ValueError(
                f"minibatches {config.minibatches}: must divide the {num} meta-episodes of a batch"
            )
        value, target = _targets(state.params, batch)
        # Each minibatch takes one of each group, because neighbours may be on one device.
        size = num // config.minibatches
        groups = jax.tree.map(
            lambda leaf: leaf.reshape(-1, size, config.minibatches, *leaf.shape[2:]),
            (batch, value, target),
        )

        def one(state: LearnerState, xs: tuple[Array, Key]) -> tuple[LearnerState, Metrics]:
            index, key = xs
            part = jax.tree.map(lambda leaf: _pick(leaf, index), groups)
            gradient, metrics = jax.grad(loss, has_aux=True)(state.params, *part, key)
            metrics["gradient_norm"] = optax.tree.norm(gradient)
            step, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
            return LearnerState(optax.apply_updates(state.params, step), optimiser_state), metrics

        order_key, loss_key = jax.random.split(key)
        order_keys = jax.random.split(order_key, (config.epochs, size))
        shuffle = partial(jax.random.permutation, x=config.minibatches)
        orders = jax.vmap(jax.vmap(shuffle))(order_keys)  # [epochs, groups, minibatches]
        parts = jnp.moveaxis(orders, -1, 1).reshape(passes, size)
        state, metrics = jax.lax.scan(one, state, (parts, jax.random.split(loss_key, passes)))
        return state, jax.tree.map(jnp.mean, metrics)

    return Learner(init, act, update, config.needs, steps=passes)


def _pick(groups: Array, index: Array) -> Array:
    """Takes one of each group: [T, G, M, ...], [G] -> [T, G, ...]."""
    return jax.vmap(lambda group, one: group[:, one], in_axes=(1, 0), out_axes=1)(groups, index)
