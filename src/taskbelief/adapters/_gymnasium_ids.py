"""Gymnasium's ids of our environments: `taskbelief/Numpad-v0`.

Gymnasium calls `register_envs` when it is imported (the package's entry point), so nothing here
imports JAX.
"""

from __future__ import annotations

# the steps of a meta-episode with default settings
STEPS = {
    "bandit": 100,
    "cheetah_velocity": 200,
    "noisy_target": 100,
    "numpad": 100,
    "semicircle": 100,
    "sparse_navigation": 100,
}


def name(env: str) -> str:
    """The id of the environment that `taskbelief.make` knows as `env`."""
    return f"taskbelief/{env.title().replace('_', '')}-v0"


def register_envs() -> None:
    """Makes the ids known, if they are not."""
    from gymnasium.envs import registration

    for env, steps in STEPS.items():
        if name(env) not in registration.registry:
            registration.register(
                name(env),
                entry_point="taskbelief.adapters.gymnasium:by_id",
                vector_entry_point="taskbelief.adapters.gymnasium:vec_by_id",
                max_episode_steps=steps,
                kwargs={"env": env},
            )
