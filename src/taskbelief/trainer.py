"""One trainer: a problem, an agent and a learner, joined. Pure functions, to be jitted.

The way of a training batch, from `Trainer.step` to the gradient:

1. training.py: one iteration draws training tasks, and
2. rollout.py plays a meta-episode on each: the environment (envs/) answers to
   `learner.act`, the label's teacher (labels/) labels each step.
3. replay.py keeps the meta-episodes and gives some back.
4. learners/: `learner.update` takes the gradient of its loss: targets (returns.py), values and
   policies (networks/heads.py) of the features that
5. agents/: `agent.unroll` makes of the history (networks/cores.py), the same function as when
   acting; `agent.aux_loss` is the label's part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from taskbelief import comparison, evaluation, rollout, training
from taskbelief.evaluation import Evaluation, Tally
from taskbelief.labels import Expert
from taskbelief.problem import Problem
from taskbelief.training import TrainState
from taskbelief.types import (
    Agent,
    AgentInput,
    Array,
    Core,
    Key,
    Learner,
    Metrics,
    Needs,
    Params,
    State,
    Task,
    Trajectory,
)


class Trainer(NamedTuple):
    problem: Problem
    agent: Agent
    learner: Learner
    sizes: training.Config
    init: Callable[[Key], TrainState]
    step: Callable[[TrainState], tuple[TrainState, Metrics]]  # one iteration
    collect: Callable[[Params, Key], Trajectory]  # what an iteration plays
    # a meta-episode on each of K tasks, as at test, with deterministic actions
    play: Callable[[Params, Task, Key], Trajectory]
    evaluate: Callable[[Params, Task, Key], Evaluation]  # likewise
    # (params, K tasks, key) -> how often beliefs are right, likewise; None: there are none
    calibrate: Callable[[Params, Task, Key], Tally] | None
    # (params, acting params, K tasks, key) -> KL(exact || learned) [T, K]; None: see comparison.py
    compare: Callable[[Params, Params, Task, Key], Array] | None


def make(
    problem: Problem,
    agent: Agent,
    learner: Learner,
    sizes: training.Config,
    mesh: Mesh | None = None,
) -> Trainer:
    """Trains `learner` on the training tasks of `problem`, and says how good it is.

    Args:
      problem: an environment with a label; agents that are told the label see it revealed.
      agent, learner: made for `problem`.
      sizes: of an iteration.
      mesh: the devices that share the work; None: the default device does it all.

    Raises:
      ValueError: parts that do not fit together, in one sentence.
    """
    problem.check(agent.needs)
    problem.check(learner.needs)
    seen, test = problem.seen(agent.needs), problem.at_test()
    teach = problem.teacher(agent.belief_log_prob is not None, learner.needs.privileged)
    loop = training.make(seen.env, agent, learner, teach, sizes, mesh)
    seen_at_test = seen.at_test().env

    def play(params: Params, tasks: Task, key: Key) -> Trajectory:
        return rollout.collect(
            seen_at_test,
            tasks,
            key,
            lambda core, inputs, _: learner.act(params, core, inputs, None),
            agent.initial_core(rollout.batch_size(tasks)),
        )

    return Trainer(
        problem=problem,
        agent=agent,
        learner=learner,
        sizes=sizes,
        init=loop.init,
        step=loop.step,
        collect=loop.collect,
        play=play,
        evaluate=evaluation.make(seen_at_test, agent, learner, problem.label.examiner, mesh=mesh),
        calibrate=evaluation.calibration(seen_at_test, agent, learner, problem.label.examiner),
        compare=comparison.make(test, agent, learner),
    )


class Length(NamedTuple):
    """How long training is, in iterations."""

    iterations: int
    warmup_steps: int  # agent steps before the first iteration
    iteration_steps: int  # agent steps in each
    updates: int  # of the learner, all together


def length(problem: Problem, needs: Needs, sizes: training.Config, steps: int) -> Length:
    """Of about `steps` agent steps (rounded up to whole iterations) by a learner with `needs`."""
    iteration_steps = sizes.envs * problem.spec.task_steps
    warmup_steps = 0 if needs.on_policy else sizes.warmup * iteration_steps
    iterations = max(1, -(-(steps - warmup_steps) // iteration_steps))
    each = 1 if needs.on_policy else sizes.updates
    return Length(iterations, warmup_steps, iteration_steps, iterations * each)


def expert(trained: Trainer, params: Params) -> Expert:
    """A trained oracle as a teacher of others.

    Raises:
      ValueError: the agent is no oracle.
    """
    problem, agent = trained.problem, trained.agent
    if not agent.needs.revealed:
        raise ValueError("an expert has to be an oracle: an agent that is told the label")

    def act(
        core: Core, key: Key, inputs: AgentInput, state: State, task: Task
    ) -> tuple[Core, Array]:
        inputs = inputs._replace(obs=problem.reveal(key, inputs.obs, state, task))
        timed = jax.tree.map(lambda leaf: leaf[None, None], inputs)
        core, action, _ = trained.learner.act(params, core, timed, None)
        return core, action[0]

    table = None if agent.table is None else agent.table(params["agent"])
    return Expert(agent.initial_core(1), act, table)
