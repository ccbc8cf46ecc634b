"""The one place where tests put the library's parts together, or name how others do.

Tests of what parts do call these: a change of how parts meet is a change of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import assembly, command, exam
from taskbelief import problem, rollout
from taskbelief.evaluation import Evaluation, References
from taskbelief.labels import Expert
from taskbelief.types import AgentInput, Env, LabelSpec, Teacher

# ---- labels -----------------------------------------------------------------------


class Oracle(NamedTuple):
    """A trained oracle, to learn from."""

    initial_core: Any  # of one meta-episode
    act: Callable | None  # (core, inputs [1, 1, ...] that end with the label) -> (core, action, _)
    told: str  # the kind of label that it sees
    table: Any = None  # [K, D]: its embeddings of the training tasks


def teacher(env: Env, kind: str, oracle: Oracle | None = None) -> tuple[LabelSpec, Teacher]:
    """The family of the labels of this kind, and who produces them while training."""
    label = problem.make(env, kind, oracle and _expert(env, oracle)).label
    return label.spec, label.teacher


def examiner(env: Env, kind: str) -> Teacher:
    """Whose labels a belief that learnt from `kind` is evaluated with."""
    return problem.make(env, kind).label.examiner


def revealed(env: Env, kind: str) -> Env:
    """As an oracle sees it that is told labels of this kind."""
    return problem.make(env, kind).revealed().env


def dense(env: Env, teach: Teacher | None) -> Teacher:
    """`teach`, or one who is silent, with the environment's dense reward."""
    silent = problem.make(env, dense=True).teacher(labels=False)
    return silent if teach is None else teach._replace(reward=silent.reward)


def _expert(env: Env, oracle: Oracle) -> Expert:
    def act(core, key, inputs, state, task):
        told = problem.make(env, oracle.told)
        inputs = inputs._replace(obs=told.reveal(key, inputs.obs, state, task))
        timed = jax.tree.map(lambda leaf: leaf[None, None], inputs)
        core, action, _ = oracle.act(core, timed)
        return core, action[0]

    return Expert(oracle.initial_core, act, oracle.table)


def moment(env: Env, obs, **fields) -> AgentInput:
    """What an agent sees at one moment, unbatched: `obs`, and zeros where nothing is said."""
    seen = {
        "obs": obs,
        "prev_action": rollout.no_action(env.spec, 1)[0],
        "prev_reward": jnp.zeros(()),
        "episode_start": jnp.zeros((), bool),
        "task_start": jnp.zeros((), bool),
        "elapsed": jnp.zeros((), jnp.int32),
    }
    return AgentInput(**seen | fields)


# ---- runs -------------------------------------------------------------------------


def assemble(*flags: str) -> assembly.Assembly:
    """The parts of the run with these flags."""
    return assembly.assemble(command.parse(flags)[0])


def seen(parts: assembly.Assembly) -> problem.Problem:
    """What the agent of these parts trains on."""
    return parts.trainer.problem.seen(parts.trainer.agent.needs)


def scores(
    parts, references: dict[str, References | None], returns, label_nll=None
) -> dict[str, float]:
    """What is written for an evaluation that found these returns, one for each task, earned at
    even pace, and the same with sampled actions; `label_nll` [T, K]."""
    returns = np.asarray(returns, float)
    found = Evaluation(returns, np.stack([returns / 4] * 4), label_nll, returns)
    return exam.scores(parts.trainer, parts.exam, references, (found, None))
