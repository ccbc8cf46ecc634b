"""One trainer: a problem, an agent and a learner, joined. Pure functions, to be jitted.

The way of a training batch, from `Trainer.step` to the gradient and back, passes thirteen files:

1. training.py draws training tasks, and
2. rollout.py plays a meta-episode on each: the environment (3. envs/) answers the actions of
   `learner.act`, and the teacher (4. labels/) produces the label of each step; 5. types.py
   holds the trajectory.
6. replay.py keeps the meta-episodes and returns a sample of them.
7. learners/: `learner.update` takes the gradient of its loss, with policies and values
8. networks/heads.py, of features that
9. agents/: `agent.unroll` computes from the history, as it does when acting, with the parts
10. agents/_history.py: trunk and label's head, whose inputs are those of
11. view.py. They are made of
12. networks/cores.py and
13. networks/__init__.py. `agent.aux_loss` is the label's part of the loss.

A label that is drawn from the exact posterior adds posterior.py, and a mesh of several devices
adds parallel.py. tests/test_way.py lists the files of one step.
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
    Carry,
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
    # (state, collections=1): one iteration, whose `collections` are those of `Length.collections`
    step: Callable[..., tuple[TrainState, Metrics]]
    collect: Callable[[Params, Key], Trajectory]  # the meta-episodes of one iteration
    # plays a meta-episode on each of K tasks, as at test, with deterministic actions
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
    """Returns functions that train `learner` on the training tasks of `problem` and evaluate it.

    Args:
      problem: an environment with a label; agents that observe the label get the revealed problem.
      agent, learner: made for `problem`.
      sizes: of an iteration.
      mesh: the devices among which work is divided; None: the default device alone.

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
            lambda carry, inputs, _: learner.act(params, carry, inputs, None),
            agent.initial_carry(rollout.batch_size(tasks)),
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
    """Length of training."""

    iterations: int
    warmup: int  # collections of the first iteration before its own
    iteration_steps: int  # agent steps in each collection
    updates: int  # of the learner, in total

    def collections(self, iteration: int) -> int:
        """Number of collections in an iteration, numbered from 0."""
        return 1 if iteration else 1 + self.warmup

    def steps(self, iterations: int) -> int:
        """Agent steps in the first `iterations`."""
        return (iterations + self.warmup * (iterations > 0)) * self.iteration_steps


def length(problem: Problem, needs: Needs, sizes: training.Config, steps: int) -> Length:
    """Returns the length of training for `steps` agent steps, rounded up to whole iterations, with
    a learner that has these `needs`."""
    iteration_steps = sizes.envs * problem.spec.task_steps
    warmup = 0 if needs.on_policy else sizes.warmup
    iterations = max(1, -(-steps // iteration_steps) - warmup)
    each = 1 if needs.on_policy else sizes.updates
    return Length(iterations, warmup, iteration_steps, iterations * each)


def expert(trained: Trainer, params: Params) -> Expert:
    """Returns a trained oracle as an expert, from which other agents learn.

    Raises:
      ValueError: the agent is no oracle.
    """
    problem, agent = trained.problem, trained.agent
    if not agent.needs.revealed:
        raise ValueError("an expert has to be an oracle: an agent that observes the label")

    def act(
        carry: Carry, key: Key, inputs: AgentInput, state: State, task: Task
    ) -> tuple[Carry, Array]:
        inputs = inputs._replace(obs=problem.reveal(key, inputs.obs, state, task))
        timed = jax.tree.map(lambda leaf: leaf[None, None], inputs)
        carry, action, _ = trained.learner.act(params, carry, timed, None)
        return carry, action[0]

    table = None if agent.table is None else agent.table(params["agent"])
    return Expert(agent.initial_carry(1), act, table)
