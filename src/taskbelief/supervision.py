"""The teacher: labels h_t that exist at training only, and the one way to reveal a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import posterior
from taskbelief.networks import heads
from taskbelief.rollout import Teacher, batch_size
from taskbelief.types import (
    AgentInput,
    Array,
    Categories,
    Continuous,
    Core,
    Env,
    EnvSpec,
    Key,
    LabelSpec,
    Privileged,
    Reals,
    State,
    Task,
)

KINDS = (
    "description",
    "expert_action",
    "expert_goal",
    "posterior_goal",
    "task_index",
    "task_embedding",
)
# labels that name a training task, so that on any other they mean nothing
OF_TRAINING_TASKS = ("task_index", "task_embedding")


class Expert(NamedTuple):
    """A trained oracle, to learn from."""

    initial_core: Core  # of one meta-episode: [1, ...]
    act: Callable[[Core, AgentInput], tuple[Core, Array, Any]]  # its mode; inputs [1, 1, ...]
    told: str  # the kind of label that it sees
    table: Array | None  # [K, D]: its embeddings of the training tasks


_SILENT = Teacher(lambda memory, *_: (memory, ()))

# (key, obs, state, task) -> h
_Say = Callable[[Key, Array, State, Task], Array]


def teacher(env: Env, kind: str, expert: Expert | None = None) -> tuple[LabelSpec, Teacher]:
    """The family of the labels, and who says them.

    "description": h = w.
    "expert_action": what `expert`, or without one the scripted expert, would do here.
    "expert_goal": what the scripted expert heads for, its action before control (numpad: the
    next pad) [ours].
    "posterior_goal": what it would head for on a task drawn from the exact posterior [ours].
    "task_index": which of the training tasks this is.
    "task_embedding": the vector that `expert` has learnt for this training task.

    All but "posterior_goal" belong to the task being played. Where tasks are drawn from p(w), a
    task drawn from p(w | history) in its place leaves E[-log b(h | history)] the same; where
    they are drawn from a finite training set, the belief then learns p(w)'s posterior and not
    that of the set, whose last consequence is that no task outside it exists.

    Raises:
      ValueError: unknown kind, or one that needs an expert of another make.
    """
    if kind == "posterior_goal":
        exact = posterior.make(env)

        def draw(
            belief: posterior.Belief, key: Key, inputs: AgentInput, state: State, task: Task
        ) -> tuple[posterior.Belief, Array]:
            del state, task
            return belief, env.goal(inputs.obs, exact.sample(belief, key))

        return env.spec.goal, Teacher(draw, exact.init, exact.update)
    if kind == "expert_action" and expert is not None:
        return _action_family(env.spec), _pupil_of(env, expert)
    if kind == "task_embedding":
        if expert is None or expert.table is None:
            raise ValueError(
                "label task_embedding needs an expert that has embeddings:"
                " an oracle trained with condition=embedding"
            )
        index = _index_of(env)
        table = expert.table
        family: LabelSpec = Reals(
            table.shape[1],
            tuple(np.mean(table, axis=0).tolist()),
            tuple((np.std(table, axis=0) + 1e-3).tolist()),
        )
        return family, _memoryless(lambda key, obs, state, task: table[index(task)])
    family, say = _sayings(env, kind)
    return family, _memoryless(say)


def examiner(env: Env, kind: str, expert: Expert | None = None) -> Teacher:
    """Whose labels a belief trained on `kind` is evaluated with: the true task's."""
    return teacher(env, _of_this_task(kind), expert)[1]


def dense(env: Env, teach: Teacher | None) -> Teacher:
    """`teach`, or without one a teacher who says nothing else, with the environment's dense
    reward for actor and critic to learn from; what agents see and are scored by stays sparse.

    Raises:
      ValueError: the environment has none.
    """
    reward = getattr(env, "dense_reward", None)
    if reward is None:
        raise ValueError("dense: this environment has no dense reward; sparse_navigation has")
    teach = teach or _SILENT
    size = env.spec.obs_dim  # an oracle's observations go on with the label
    return teach._replace(reward=lambda next_obs, task: reward(next_obs[:size], task))


def with_task(teach: Teacher | None) -> Teacher:
    """`teach`, or without one a teacher who says nothing else, whose labels hold the task too."""
    return (teach or _SILENT)._replace(task=True)


def privileged(env: Env) -> Privileged:
    """What a privileged critic reads: the task's description, and the goal where that is of
    another family, each as networks read a label."""
    spec = env.spec
    size = spec.obs_dim  # an oracle's observations go on with the label
    task_head, goal_head = heads.label_head(spec.task), heads.label_head(spec.goal)
    both = spec.goal != spec.task

    def read(obs: Array, task: Task) -> Array:
        obs = obs[:size]
        told = [task_head.embed(env.describe(task), obs)]
        if both:
            told.append(goal_head.embed(env.goal(obs, task), obs))
        return jnp.concatenate(told)

    return Privileged(task_head.embed_dim + both * goal_head.embed_dim, read)


def _of_this_task(kind: str) -> str:
    return "expert_goal" if kind == "posterior_goal" else kind


def _sayings(env: Env, kind: str) -> tuple[LabelSpec, _Say]:
    """Labels that depend on nothing but the moment."""
    spec = env.spec
    if kind == "description":
        return spec.task, lambda key, obs, state, task: env.describe(task)
    if kind == "expert_goal":
        return spec.goal, lambda key, obs, state, task: env.goal(obs, task)
    if kind == "expert_action":
        if not spec.has_expert:
            raise ValueError(
                "label expert_action: this environment has no scripted expert; take a trained"
                " oracle (--expert), or the label description"
            )
        shape = _action_shape(spec)
        return (
            _action_family(spec),
            lambda key, obs, state, task: env.expert(key, state, task).reshape(shape),
        )
    if kind == "task_index":
        index = _index_of(env)
        return (
            Categories(1, batch_size(env.task_set("train"))),
            lambda key, obs, state, task: index(task)[None],
        )
    raise ValueError(f"unknown label {kind!r}: choose from {', '.join(KINDS)}")


def _memoryless(say: _Say) -> Teacher:
    return Teacher(
        lambda memory, key, inputs, state, task: (memory, say(key, inputs.obs, state, task))
    )


def _pupil_of(env: Env, expert: Expert) -> Teacher:
    """What the trained oracle would do, had it been at the wheel so far."""
    _, say = _sayings(env, _of_this_task(expert.told))
    head = heads.label_head(_sayings(env, _of_this_task(expert.told))[0])
    shape = _action_shape(env.spec)

    def advise(
        core: Core, key: Key, inputs: AgentInput, state: State, task: Task
    ) -> tuple[Core, Array]:
        told = head.embed(say(key, inputs.obs, state, task), inputs.obs)
        inputs = inputs._replace(obs=jnp.concatenate([inputs.obs, told]))
        core, action, _ = expert.act(core, jax.tree.map(lambda leaf: leaf[None, None], inputs))
        return core, action[0].reshape(shape)

    return Teacher(advise, lambda obs: expert.initial_core)


def _action_family(spec: EnvSpec) -> LabelSpec:
    if isinstance(spec.action, Continuous):
        num = spec.action.num
        return Reals(num, (0.0,) * num, (1.0,) * num)
    return Categories(1, spec.action.num)


def _action_shape(spec: EnvSpec) -> tuple[int]:
    return (spec.action.num,) if isinstance(spec.action, Continuous) else (1,)


def _index_of(env: Env) -> Callable[[Task], Array]:
    """Which of the training tasks a task is, [] int32 (another task: the nearest)."""

    def flat(task: Task) -> Array:
        leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(task)]
        return jnp.concatenate(leaves)

    with jax.ensure_compile_time_eval():
        known = jax.vmap(flat)(env.task_set("train"))

    def index(task: Task) -> Array:
        return jnp.argmin(jnp.sum(jnp.square(known - flat(task)), axis=-1)).astype(jnp.int32)

    return index


@dataclass(frozen=True)
class _Revealed:
    """`env` with the label, as networks read it, at the end of each observation."""

    env: Env
    kind: str

    @property
    def spec(self) -> EnvSpec:
        spec = self.env.spec
        return replace(spec, obs_dim=spec.obs_dim + self._head.embed_dim)

    @property
    def _head(self) -> heads.LabelHead:
        return heads.label_head(_sayings(self.env, self.kind)[0])

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        state_key, label_key = jax.random.split(key)
        obs, state = self.env.reset(state_key, task)
        return self._reveal(label_key, obs, state, task), state

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        state_key, label_key = jax.random.split(key)
        obs, state, reward, terminated = self.env.step(state_key, state, action, task)
        return self._reveal(label_key, obs, state, task), state, reward, terminated

    def at_test(self) -> _Revealed:
        return replace(self, env=self.env.at_test())

    def _reveal(self, key: Key, obs: Array, state: State, task: Task) -> Array:
        h = _sayings(self.env, self.kind)[1](key, obs, state, task)
        return jnp.concatenate([obs, self._head.embed(h, obs)])

    def __getattr__(self, name: str):
        return getattr(self.env, name)


def reveal_task(env: Env, kind: str = "description") -> Env:
    """The environment with the label h in its observations: for oracles, and nothing else."""
    return _Revealed(env, _of_this_task(kind))
