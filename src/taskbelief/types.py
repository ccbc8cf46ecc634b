"""Types of the library: the interfaces of environments, agents and learners, and their data.

Axes in shape comments: T time steps, B parallel meta-episodes (the batch),
D features, H units of a recurrent core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array  # a new-style key from jax.random.key, used once
Params: TypeAlias = Any  # a pytree of arrays
Carry: TypeAlias = Any  # state that an agent carries from step to step, a pytree of [B, ...]
State: TypeAlias = Any  # the state x of an environment, its own NamedTuple
Task: TypeAlias = Any  # the task w, an environment's own NamedTuple
Metrics: TypeAlias = dict[str, Array]


# ---- What an environment declares -------------------------------------------------


@dataclass(frozen=True)
class Continuous:
    """Actions in the box [-1, 1]^num, float32 of shape [num]."""

    num: int

    def legal(self, action: Array) -> Array:
        """Returns the action that is played: clipped to the box, with 0 in place of NaN.

        Raises:
          ValueError: while tracing, of a shape other than [num], or of complex numbers.
        """
        action = _of_shape(action, (self.num,))
        if jnp.issubdtype(action.dtype, jnp.complexfloating):
            raise ValueError(f"an action of type {action.dtype}: must be real")
        action = action.astype(jnp.float32)
        return jnp.where(jnp.isnan(action), 0.0, jnp.clip(action, -1.0, 1.0))

    def none(self, *batch: int) -> Array:
        """The placeholder of an action before the first: zeros, [*batch, num]."""
        return jnp.zeros((*batch, self.num))

    def embed(self, action: Array) -> Array:
        """Actions as networks read them, [..., num]: as they are."""
        return action


@dataclass(frozen=True)
class Discrete:
    """Actions 0 ... num - 1, int32 of shape []."""

    num: int

    def legal(self, action: Array) -> Array:
        """Returns the action that is played: the nearest one from 0 to num - 1.

        Raises:
          ValueError: while tracing, of a shape other than [], or not a whole number.
        """
        action = _of_shape(action, ())
        if not jnp.issubdtype(action.dtype, jnp.integer):
            raise ValueError(f"an action of type {action.dtype}: must be a whole number")
        limits = jnp.iinfo(action.dtype)
        if limits.max >= self.num - 1 and limits.min <= 0:
            action = jnp.clip(action, 0, self.num - 1)
        return action.astype(jnp.int32)

    def none(self, *batch: int) -> Array:
        """The placeholder of an action before the first: zeros, [*batch]."""
        return jnp.zeros(batch, jnp.int32)

    def embed(self, action: Array) -> Array:
        """Actions as networks read them, [..., num]: one-hot."""
        return jax.nn.one_hot(action, self.num)


def _of_shape(action: Array, shape: tuple[int, ...]) -> Array:
    action = jnp.asarray(action)
    if action.shape != shape:
        raise ValueError(
            f"an action of shape {list(action.shape)}: must be {list(shape)} (vmap for batches)"
        )
    return action


@dataclass(frozen=True)
class Probabilities:
    """Family of labels of `num` independent probabilities: float32 [num] in (0, 1)."""

    num: int


@dataclass(frozen=True)
class Reals:
    """Family of labels that are real vectors: float32 [num].

    `centre` and `scale` give the order of magnitude of each entry, so that heads can
    predict, and networks read, the standardised value (h - centre) / scale. `origin` as in
    `Categories`.
    """

    num: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    origin: tuple[int, ...] = ()


@dataclass(frozen=True)
class Categories:
    """Family of labels of `places` choices out of `classes`: int32 [places].

    `coordinates[c]` is the position of class c in space (empty: it has none). Networks read the
    coordinates beside the one-hot code: a movement to a pad is linear in the coordinates only.
    `origin` names the entries of the observation that are the agent's own coordinates in the
    same space: networks then read the position of a label relative to the agent.
    """

    places: int
    classes: int
    coordinates: tuple[tuple[float, ...], ...] = ()
    origin: tuple[int, ...] = ()


ActionSpec: TypeAlias = Continuous | Discrete
LabelSpec: TypeAlias = Probabilities | Reals | Categories


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """Static facts of an environment; the first four are enough.

    A meta-episode is `episodes_per_task` episodes of at most `episode_steps` steps on one
    task; all counts are in agent steps. Rewards lie in `reward_range`.
    """

    obs_dim: int
    action: ActionSpec
    task: LabelSpec  # the distribution family of the task description h
    episode_steps: int
    episodes_per_task: int = 1
    goal: LabelSpec = None  # type: ignore[assignment]  # the family of goals; None: the task's
    reward_range: tuple[float, float] = (0.0, 1.0)
    terminates: bool = False  # episodes may end before their time
    # the least and the greatest of each entry of an observation; (): it has no bounds
    obs_range: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.goal is None:
            object.__setattr__(self, "goal", self.task)

    @property
    def task_steps(self) -> int:
        """Number of steps of a whole meta-episode."""
        return self.episode_steps * self.episodes_per_task


class Env(Protocol):
    """A family of MDPs with the same states and actions; the hidden task w selects one of them.

    Implementations are frozen dataclasses of settings, so hashable and static under jit.
    All methods are pure, take single (unbatched) values and are to be vmapped. The task is
    an argument throughout, never part of the state: the loop holds it, and a meta-episode
    may reset the state without changing the task.

    These methods suffice for training. Further methods form capabilities, which are detected by
    type (`isinstance(env, HasLikelihood)`); a component that needs a missing one is refused.
    """

    def __hash__(self) -> int: ...

    @property
    def spec(self) -> EnvSpec: ...

    def sample_task(self, key: Key) -> Task:
        """Draws a task, w ~ p(w)."""
        ...

    def task_set(self, split: str, num: int | None = None) -> Task:
        """Returns the fixed set of tasks "train" or "holdout", batched [num, ...]: disjoint sets.

        `num` None: the set's own size, 100 for training and 1000 to hold out (fewer where
        the task space is finite and fewer remain), or as the environment's settings say.
        """
        ...

    def describe(self, task: Task) -> Array:
        """Returns the task description h = w, in the family `spec.task`."""
        ...

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """Draws the first observation and state of an episode, x0 ~ p0(x0 | w)."""
        ...

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Draws (obs, state, reward, terminated) ~ P(r, x' | x, a, w).

        `terminated` ends the episode before its time; the loop ends it when time runs out.
        """
        ...


@runtime_checkable
class HasGoal(Env, Protocol):
    """Capability: the goal that an expert moves to."""

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the goal that an expert moves to now, in the family `spec.goal`."""
        ...

    def distance(self, state: State, task: Task) -> Array:
        """Returns the distance to the next goal of `task`, so that the explorer can take the
        nearest."""
        ...


@runtime_checkable
class HasExpert(HasGoal, Protocol):
    """Capability: a scripted policy that knows the task: score 1. Without it, scores are
    returns."""

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """Returns the action of the scripted policy."""
        ...


@runtime_checkable
class HasLikelihood(Env, Protocol):
    """Capability: an exact posterior over tasks."""

    def initial_carry(self, task: Task) -> Any:
        """Returns the state that a hypothesis carries along a history (any pytree), before step
        0."""
        ...

    def log_likelihood(
        self, task: Task, carry: Any, obs: Array, action: Array, reward: Array, next_obs: Array
    ) -> tuple[Any, Array]:
        """Returns (carry', log P(r, x' | x, a, w)), up to a constant that all tasks share.

        This is the factor of the exact posterior. It depends only on data that an agent sees.
        """
        ...

    def hypotheses(self, num: int) -> tuple[Task, Array]:
        """Returns tasks that represent all of W, [K, ...], and their log prior, [K].

        All tasks where W is finite (`num` is then ignored), a grid of about `num` elsewhere.
        """
        ...


@runtime_checkable
class HasIndependentArms(HasLikelihood, Protocol):
    """Capability: a task that consists of one independent probability of reward 1 for each action,
    uniform under p(w). The posterior is a Beta distribution for each, in closed form."""

    def of_probabilities(self, probabilities: Array) -> Task:
        """Returns the task with these `probabilities` of reward 1, [num]."""
        ...


@runtime_checkable
class HasInformativeStart(HasLikelihood, Protocol):
    """Capability: a first observation that depends on the task."""

    def start_log_likelihood(self, task: Task, obs: Array) -> Array:
        """Returns log p0(x0 | w) of the first observation, up to a constant that all tasks
        share."""
        ...


@runtime_checkable
class HasDenseReward(Env, Protocol):
    """Capability: a second, dense reward for learning. Agents see the reward of `step`, and scores
    count it."""

    def dense_reward(self, next_obs: Array, task: Task) -> Array:
        """Returns the reward for the arrival at `next_obs`, []."""
        ...


@runtime_checkable
class HasTrainingHelp(Env, Protocol):
    """Capability: help for the agent in training, which is absent at test."""

    def at_test(self) -> Env:
        """Returns the same environment without this help; the shapes are the same."""
        ...


@runtime_checkable
class HasScene(Env, Protocol):
    """Capability: a picture of the state, for films."""

    def draw(self, axes: Any, task: Task, states: State) -> None:
        """Draws the last of `states`, and the path to it.

        Args:
          axes: of Matplotlib.
          task: the hidden task, in NumPy.
          states: [t + 1, ...] in NumPy, from the first of the meta-episode to the current one.
        """
        ...


def goal(env: Env) -> Callable[[Array, Task], Array]:
    """Returns the function (obs, task) -> goal, in the family `spec.goal`; the goal is the task
    description where the environment defines no other."""
    return env.goal if isinstance(env, HasGoal) else lambda obs, task: env.describe(task)


def at_test(env: Env) -> Env:
    """Returns the environment in which agents are evaluated."""
    return env.at_test() if isinstance(env, HasTrainingHelp) else env


# ---- Inputs of agents, and labels --------------------------------------------------


class AgentInput(NamedTuple):
    """Everything that an agent may see when it acts; time-major."""

    obs: Array  # [T, B, obs_dim]
    prev_action: Array  # [T, B, num] or [T, B]
    prev_reward: Array  # [T, B]
    episode_start: Array  # [T, B] bool: the state was reset, the task and the carry continue
    task_start: Array  # [T, B] bool: a new task; the carry is zeroed
    elapsed: Array  # [T, B] int32: steps since the episode began
    # [T, B, obs_dim]: the observation that the last action led to, before a reset replaces it in
    # `obs`; None where tasks have no resets, because it would equal `obs`
    reached: Array | None = None


class Label(NamedTuple):
    """Data that only losses and evaluation may see."""

    h: Array  # [T, B, ...] in the family of the label
    reward: Array | None = None  # [T, B]: the dense reward, for learning; None: there is none
    task: Task = None  # [T, B, ...]: the hidden task, for privileged critics; None: there are none


class Teacher(NamedTuple):
    """Produces the label at each step, unbatched; labels may depend on the history."""

    # (carry, key, inputs, state, task) -> (carry, h)
    label: Callable[[Any, Key, AgentInput, State, Task], tuple[Any, Array]]
    init: Callable[[Array], Any] = lambda obs: ()  # (first observation) -> carry
    # (carry, obs, action, reward, next_obs) -> carry
    observe: Callable[..., Any] = lambda carry, *_: carry
    # (next_obs, task) -> dense reward for learning; None: the environment's reward is used
    reward: Callable[[Array, Task], Array] | None = None
    task: bool = False  # labels contain the task too, for privileged critics


# (key, obs, state, task) -> h: a label that does not depend on earlier steps
Momentary: TypeAlias = Callable[[Key, Array, State, Task], Array]


def momentary_teacher(label: Momentary) -> Teacher:
    """Returns the teacher of a label that does not depend on earlier steps."""
    return Teacher(
        lambda carry, key, inputs, state, task: (carry, label(key, inputs.obs, state, task))
    )


class Trajectory(NamedTuple):
    """B whole meta-episodes, time-major, from the zero carry.

    `action[t]` follows `inputs[t]`; `reward[t]` is its reward. `inputs` has one more entry, the
    input after the last step, for bootstrapping.
    """

    inputs: AgentInput  # [T + 1, B, ...]
    action: Array  # [T, B, ...]
    log_prob: Array  # [T, B]: of `action` under the policy that took it
    reward: Array  # [T, B]
    terminated: Array  # [T, B] bool: the episode ended before its time
    episode_end: Array  # [T, B] bool: terminated, or out of time
    task_end: Array  # [T, B] bool: the last step of the meta-episode
    label: Label  # [T, B, ...]

    @property
    def learning_reward(self) -> Array:
        """The reward from which actor and critic learn, [T, B]."""
        return self.reward if self.label.reward is None else self.label.reward

    def discounts(self, gamma: float, *, bootstrap: bool) -> Array:
        """Returns the discount on the value after each step, [T, B].

        Episode ends inside a task do not cut the return: the task goes on, and knowledge of it
        is of use in the next episode. At the end of the task time is over, but the last state
        is not terminal: with `bootstrap` its value stands for the rewards that would have
        followed; without, the return ends with the task. Nothing follows a step that both
        terminates and ends the task.

        Args:
          gamma: discount per step.
          bootstrap: from the last state's value, where time is over.
        """
        over = self.task_end & self.terminated if bootstrap else self.task_end
        return gamma * (1.0 - over)


class Transition(NamedTuple):
    """Single steps in any order."""

    obs: Array  # [..., obs_dim]
    action: Array  # [..., num] or [...]
    reward: Array  # [...]: of the environment
    learning_reward: Array  # [...]: from which actor and critic learn
    next_obs: Array  # [..., obs_dim]: after the action, before any reset
    terminated: Array  # [...] bool: the episode ended before its time


# ---- Agents and learners ----------------------------------------------------------


class Privileged(NamedTuple):
    """The hidden task as input of a critic, in training only."""

    size: int
    read: Callable[[Array, Task], Array]  # (obs [..., D], task [..., ...]) -> [..., size]


@dataclass(frozen=True)
class Needs:
    """Requirements of an agent or a learner, declared by its `Config`."""

    label: bool = False  # labels, to learn from or to observe
    only_label: str = ""  # the one kind of label that it can use; "": any
    revealed: bool = False  # observations that end with the label
    posterior: bool = False  # the exact posterior
    several_episodes: bool = False  # tasks that last for more than one episode
    on_policy: bool = False  # meta-episodes of the current policy, each used once
    privileged: bool = False  # the hidden task, for value functions alone
    only_learner: str = ""  # the one learner that an agent goes with; "": any that takes it


class Features(NamedTuple):
    """Features of the history, computed by an agent."""

    actor: Array  # [T, B, D]: input of the policy
    critic: Array  # [T, B, D']: input of the value function
    belief: Array  # [T, B, H]: input of the label's head
    loss: Array  # [T, B]: the agent's own regulariser (information bottleneck), 0 if none


class Agent(NamedTuple):
    """A recurrent map from the history of inputs to features, as pure functions.

    `unroll(params, carry, inputs, key)` serves both acting (T = 1) and learning (whole
    meta-episodes). `key` None gives deterministic features (evaluation).
    """

    init: Callable[[Key], Params]
    initial_carry: Callable[[int], Carry]
    unroll: Callable[[Params, Carry, AgentInput, Key | None], tuple[Carry, Features]]
    aux_loss: Callable[[Params, Features, Label], tuple[Array, Metrics]]
    # log-likelihood of labels under the agent's belief, [T, B]; None: it has no label head
    belief_log_prob: Callable[[Params, Features, Label], Array] | None = None
    stochastic: bool = False  # features are random where `unroll` has a key
    # features of single observations to learn from, for an agent whose history is a set of
    # transitions: (params, context [C, N, ...], obs [n, N, obs_dim], key) -> features [n, N, ...]
    # under one draw for each of N tasks
    infer_offline: Callable[[Params, Transition, Array, Key], Features] | None = None
    context: int = 0  # C: transitions of a task that `infer_offline` wants
    # E[h] under the agent's belief, [T, B, ...]; for categories, their probabilities
    belief_mean: Callable[[Params, Features], Array] | None = None
    # of labels that are numbers: the mass of the belief below the true ones, [T, B, num]; None:
    # labels are categories, or it has no head
    belief_cdf: Callable[[Params, Features, Label], Array] | None = None
    needs: Needs = Needs()
    # params -> learned embeddings of the training tasks, [K, D]; None: it has none
    table: Callable[[Params], Array] | None = None


class ReplayKind(NamedTuple):
    """A replay: functions of its own pytree `buffer`. The first axis of its `rows` are rings, which
    can be on separate devices."""

    # (capacity in meta-episodes, example [T (+ 1), B, ...], rings) -> empty buffer
    init: Callable[[int, Trajectory, int], Any]
    add: Callable[[Any, Trajectory], Any]  # (buffer, what was played) -> buffer
    # (buffer, key, num) -> what an update learns from, [., num, ...], equal shares of each ring
    sample: Callable[[Any, Key, int], Any]
    # (buffer, num) -> [num]: the training tasks to play next; None: any, at random
    tasks: Callable[[Any, int], Array] | None = None


class Learner(NamedTuple):
    """Policy, value functions and their losses on an agent's features, as pure functions.

    `act(params, carry, inputs, key)` samples an action; with `key` None it takes the mode.
    """

    init: Callable[[Key], Any]
    act: Callable[[Params, Carry, AgentInput, Key | None], tuple[Carry, Array, Array]]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]  # (state, sample, key)
    needs: Needs = Needs()
    steps: int = 1  # optimiser steps in one update
    replay: ReplayKind | None = None  # None: whole meta-episodes, sampled uniformly
