"""Trains on eight devices and on one, in a process that has eight; see test_parallel.py.

python -m tests.eight_devices LEARNER..., with JAX_NUM_CPU_DEVICES=8
"""

import json
import re
import sys

import jax
import numpy as np

from taskbelief import parallel, registry, training
from tests.wiring import small

UPDATES = 20


def functions(learner_name, mesh, **sizes):
    learner_module = registry.find("learners", learner_name)
    settings = {"shards": 8, "envs": 24, "batch": 16, "replay_rows": 96, "updates": 2}
    env, agent, learner, teach = small("noisy_target", "aux_head", learner=learner_module)
    return training.make(env, agent, learner, teach, training.Config(**settings | sizes), mesh)


def trained(learner_name, mesh):
    """Trains for UPDATES // 2 iterations; returns (last state, last metrics, program text)."""
    made = functions(learner_name, mesh)
    state = jax.eval_shape(made.init, jax.random.key(0))
    where = training.shardings(state, mesh)
    init = jax.jit(made.init, out_shardings=where)
    step = jax.jit(made.step, in_shardings=(where,), out_shardings=(where, None), donate_argnums=0)
    state = init(jax.random.key(0))
    compiled = step.lower(state).compile()
    for _ in range(UPDATES // 2):
        state, metrics = compiled(state)
    return state, metrics, compiled.as_text()


def main():
    assert jax.device_count() == 8
    print(json.dumps({name: compared(name) for name in sys.argv[1:]}))


def compared(name):
    """Compares training on eight devices with training on one."""
    one, one_metrics, _ = trained(name, parallel.mesh(jax.devices()[:1], 8))
    many, metrics, text = trained(name, parallel.mesh(jax.devices(), 8))
    difference = jax.tree.map(
        lambda a, b: float(np.max(np.abs(np.asarray(a) - np.asarray(b)))),
        (one.learner.params, one_metrics),
        (many.learner.params, metrics),
    )
    found = {
        "devices": len(jax.tree.leaves(many.learner.params)[0].devices()),
        "params": max(jax.tree.leaves(difference[0])),
        "metrics": difference[1],
        "collectives": sorted(
            set(
                re.findall(
                    r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\(", text
                )
            )
        ),
    }
    if many.replay is not None:
        shard = many.replay.rows.reward.addressable_shards[0].data
        found["rows on each"] = shard.shape[0] * shard.shape[1]
        rewards = (np.asarray(state.replay.rows.reward) for state in (one, many))
        found["rows"] = float(np.max(np.abs(np.subtract(*rewards))))
    return found


if __name__ == "__main__":
    main()
