"""gymnax's Pendulum-v1 with an unknown motor."""
from __future__ import annotations
import jax, jax.numpy as jnp
from gymnax.environments.classic_control.pendulum import EnvParams
from taskbelief.foreign import from_gymnax

def sample_params(key):
    sign_key, size_key = jax.random.split(key)
    sign = jax.random.rademacher(sign_key, (), jnp.float32)
    return EnvParams(m=sign * jax.random.uniform(size_key, minval=0.5, maxval=1.5))

def describe(params):
    return 1.0 / params.m

pendulum = from_gymnax("Pendulum-v1", sample_params, describe, name="pendulum", episode_steps=100, terminates=False, reward_scale=0.1)
