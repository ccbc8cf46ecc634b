"""The one place where tests put the library's parts together, or name how others do.

Tests of what parts do call these: a change of how parts meet is a change of this file.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from experiments import assembly, config
from taskbelief import rollout, supervision
from taskbelief.evaluation import Evaluation, References
from taskbelief.rollout import Teacher
from taskbelief.types import AgentInput, Env, LabelSpec

# ---- labels -----------------------------------------------------------------------


def teacher(env: Env, kind: str, expert=None) -> tuple[LabelSpec, Teacher]:
    """The family of the labels of this kind, and who says them."""
    return supervision.teacher(env, kind, expert)


def examiner(env: Env, kind: str) -> Teacher:
    """Whose labels a belief that learnt from `kind` is evaluated with."""
    return supervision.examiner(env, kind)


def revealed(env: Env, kind: str) -> Env:
    """As an oracle sees it that is told labels of this kind."""
    return supervision.reveal_task(env, kind)


def dense(env: Env, teach: Teacher | None) -> Teacher:
    """`teach`, who also pays the environment's dense reward."""
    return supervision.dense(env, teach)


def expert(initial_core, act, told: str, table=None) -> supervision.Expert:
    """A trained oracle."""
    return supervision.Expert(initial_core, act, told, table)


def moment(env: Env, obs, **fields) -> AgentInput:
    """What an agent sees at one moment, unbatched: `obs`, and zeros where nothing is said."""
    seen = {
        "obs": obs,
        "prev_action": rollout.no_action(env.spec, 1)[0],
        "prev_reward": jnp.zeros(()),
        "episode_start": jnp.zeros((), bool),
        "task_start": jnp.zeros((), bool),
    }
    return AgentInput(**seen | fields)


# ---- runs -------------------------------------------------------------------------


def assemble(*flags: str) -> assembly.Assembly:
    """The parts of the run with these flags."""
    return assembly.assemble(config.parse(flags)[0])


def scores(
    parts, references: dict[str, References | None], returns, label_nll=None
) -> dict[str, float]:
    """What is written for an evaluation that found these returns, one for each of `parts.tasks`,
    earned at even pace; `label_nll` [T, K]."""
    returns = np.asarray(returns, float)
    found = Evaluation(returns, np.stack([returns / 4] * 4), label_nll)
    return assembly.scores(parts, references, (found, None))
