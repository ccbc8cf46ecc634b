"""What an expert would head for on a task drawn from the exact posterior [ours].

All other labels belong to the task being played. Where tasks are drawn from p(w), a task drawn
from p(w | history) in its place leaves E[-log b(h | history)] the same; where they are drawn from
a finite training set, the belief then learns p(w)'s posterior and not that of the set, whose last
consequence is that no task outside it exists.
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
    """The label for `env`.

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
