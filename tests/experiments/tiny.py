"""The smallest run: a bandit, 8 units, 4 parallel meta-episodes.

Tests share its length where they can, because a schedule makes the length a part of the program.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from taskbelief.runs import checkpoint

ROOT = Path(__file__).parent.parent.parent

# the bandit in its default settings, whose references are committed
PARTS = ["--env", "bandit", "--agent", "aux_head"]
NAMES = [*PARTS, "--label", "description", "--belief_tasks", "0"]
SIZES = [
    *["--agent.hidden", "8", "--agent.encoder", "8", "--agent.head_hidden", "8"],
    *["--learner.actor_hidden", "8", "--learner.critic_hidden", "8"],
    *["--train.envs", "4", "--train.updates", "1", "--train.batch", "4"],
    *["--train.warmup", "1", "--train.replay_rows", "16"],
    *["--evaluations", "2", "--evaluation_tasks", "20"],
]
ITERATION = 4 * 100  # agent steps
ITERATIONS = 40


def arguments(out: Path, *more: str, iterations: int = ITERATIONS) -> list[str]:
    steps = (iterations + 1) * ITERATION  # one for the warm-up
    return [*NAMES, *SIZES, "--steps", str(steps), "--rows", "10", "--out", str(out), *more]


def start(*args: str, devices: int = 1) -> subprocess.Popen:
    """Starts `python -m experiments.run` as a separate process."""
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *args],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def saved(run: Path) -> dict[str, np.ndarray]:
    """Returns all arrays of a run's newest checkpoint."""
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(checkpoint.checkpoints(run)[0].resolve() / "state")
    return {name: np.asarray(array) for name, array in found.items()}


def same(run: Path, other: Path) -> bool:
    """Whether the newest checkpoints of two runs are equal to the bit."""
    one, two = saved(run), saved(other)
    return one.keys() == two.keys() and all(
        one[name].tobytes() == two[name].tobytes() for name in one
    )
