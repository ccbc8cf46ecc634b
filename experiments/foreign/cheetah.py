from __future__ import annotations
from typing import NamedTuple
import jax, jax.numpy as jnp
from brax import envs
from taskbelief.foreign import from_brax

class Params(NamedTuple):
    direction: jax.Array
    strength: jax.Array

def sample_params(key):
    a, b = jax.random.split(key)
    return Params(jax.random.rademacher(a, (), jnp.float32), jax.random.uniform(b, minval=0.8, maxval=1.2))

def describe(params):
    return jnp.stack(params)

def system(sys, params):
    return sys.replace(actuator=sys.actuator.replace(gear=params.strength * sys.actuator.gear))

def reward(state, action, after, params):
    return params.direction * after.metrics["x_velocity"] + after.metrics["reward_ctrl"]

cheetah = from_brax(envs.get_environment("halfcheetah", backend="spring"), sample_params, describe, system=system, reward=reward, name="cheetah", episode_steps=100, terminates=False)
cheetah8 = from_brax(envs.get_environment("halfcheetah", backend="spring", n_frames=8), sample_params, describe, system=system, reward=reward, name="cheetah8", episode_steps=100, terminates=False)
