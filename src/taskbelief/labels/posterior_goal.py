"""The goal of an expert on a task drawn from the exact posterior [ours].

All other labels are of the true task. If tasks are drawn from p(w), a draw from p(w | history) in
place of the true task leaves E[-log b(h | history)] the same. If they are drawn from a finite
training set, the belief then learns the posterior of p(w) and not that of the set, which excludes
all other tasks.
"""

from __future__ import annotations

from taskbelief import posterior
from taskbelief.labels import Expert, LabelKind, _exact
from taskbelief.posterior import Belief
from taskbelief.types import (
    AgentInput,
    Array,
    Env,
    Key,
    State,
    Task,
    Teacher,
    goal,
    momentary_teacher,
)


def make(env: Env, expert: Expert | None = None) -> LabelKind:
    """Returns the label for `env`.

    Raises:
      ValueError: the environment has no exact posterior.
    """
    del expert
    exact, head_for = posterior.make(env), goal(env)

    def draw(
        belief: Belief, key: Key, inputs: AgentInput, state: State, task: Task
    ) -> tuple[Belief, Array]:
        del state, task
        return belief, head_for(inputs.obs, exact.sample(belief, key))

    def of_this_task(key: Key, obs: Array, state: State, task: Task) -> Array:
        del key, state
        return head_for(obs, task)

    return LabelKind(
        env.spec.goal,
        teacher=Teacher(draw, exact.init, exact.update),
        examiner=momentary_teacher(of_this_task),
        momentary=of_this_task,
        exact=_exact.of_goals(env),
    )
