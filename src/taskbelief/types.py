"""The words of the library: what an environment, an agent and a learner are made of.

Axes in shape comments: T time steps, B meta-episodes side by side (the batch),
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
Carry: TypeAlias = Any  # what an agent carries from step to step, a pytree of [B, ...]
State: TypeAlias = Any  # the state x of an environment, its own NamedTuple
Task: TypeAlias = Any  # the task w, an environment's own NamedTuple
Metrics: TypeAlias = dict[str, Array]


# ---- What an environment declares -------------------------------------------------


@dataclass(frozen=True)
class Continuous:
    """Actions in the box [-1, 1]^num, float32 of shape [num]."""

    num: int

    def legal(self, action: Array) -> Array:
        """The action that is played: what lies outside the box is clipped, NaN counts as 0.

        Raises:
          ValueError: while tracing, of a shape other than [num], or of complex numbers.
        """
        action = _of_shape(action, (self.num,))
        if jnp.issubdtype(action.dtype, jnp.complexfloating):
            raise ValueError(f"an action of type {action.dtype}: must be real")
        action = action.astype(jnp.float32)
        return jnp.where(jnp.isnan(action), 0.0, jnp.clip(action, -1.0, 1.0))


@dataclass(frozen=True)
class Discrete:
    """Actions 0 ... num - 1, int32 of shape []."""

    num: int

    def legal(self, action: Array) -> Array:
        """The action that is played: below 0 the first, beyond the last one the last.

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


def _of_shape(action: Array, shape: tuple[int, ...]) -> Array:
    action = jnp.asarray(action)
    if action.shape != shape:
        raise ValueError(
            f"an action of shape {list(action.shape)}: must be {list(shape)} (vmap for batches)"
        )
    return action


@dataclass(frozen=True)
class Probabilities:
    """Labels that are `num` independent probabilities: float32 [num] in (0, 1)."""

    num: int


@dataclass(frozen=True)
class Reals:
    """Labels that are real vectors: float32 [num].

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
    """Labels that are `places` choices out of `classes`: int32 [places].

    `coordinates[c]` places class c in space (empty: it has no place). Networks read the
    coordinates beside the one-hot code: moving to a pad is linear in the former only.
    `origin` names the entries of the observation that are the agent's own coordinates in the
    same space: networks then read where a label lies from where the agent is.
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
        """Steps of a whole meta-episode."""
        return self.episode_steps * self.episodes_per_task


class Env(Protocol):
    """A family of MDPs that share states and actions; the hidden task w picks one.

    Implementations are frozen dataclasses of settings, so hashable and static under jit.
    All methods are pure, take single (unbatched) values and are to be vmapped. The task is
    an argument throughout, never part of the state: the loop holds it, and a meta-episode
    may reset the state without changing the task.

    These methods are enough to train on. More is a capability, asked for by its type
    (`isinstance(env, HasLikelihood)`); where it is missing, what needs it is refused.
    """

    def __hash__(self) -> int: ...

    @property
    def spec(self) -> EnvSpec: ...

    def sample_task(self, key: Key) -> Task:
        """w ~ p(w)."""
        ...

    def task_set(self, split: str, num: int | None = None) -> Task:
        """The fixed, disjoint sets of tasks "train" and "holdout", batched [num, ...].

        `num` None: the set's own size, 100 for training and 1000 to hold out (fewer where
        the task space is finite and fewer remain), or as the environment's settings say.
        """
        ...

    def describe(self, task: Task) -> Array:
        """The task description h = w, in the family `spec.task`."""
        ...

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """The first observation and state of an episode: x0 ~ p0(x0 | w)."""
        ...

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """(obs, state, reward, terminated) ~ P(r, x' | x, a, w).

        `terminated` ends the episode before its time; running out of time is the loop's.
        """
        ...


@runtime_checkable
class HasGoal(Env, Protocol):
    """Knows what an expert would head for."""

    def goal(self, obs: Array, task: Task) -> Array:
        """What an expert heads for now, in the family `spec.goal`: its action before control."""
        ...

    def distance(self, state: State, task: Task) -> Array:
        """How far the next goal of `task` is, so that the explorer can take the nearest."""
        ...


@runtime_checkable
class HasExpert(HasGoal, Protocol):
    """Has a scripted policy that knows the task: score 1. Without one, scores are returns."""

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """The action of the scripted policy."""
        ...


@runtime_checkable
class HasLikelihood(Env, Protocol):
    """Has an exact posterior over tasks."""

    def initial_carry(self, task: Task) -> Any:
        """What a hypothesis carries along a history (its own pytree), before step 0."""
        ...

    def log_likelihood(
        self, task: Task, carry: Any, obs: Array, action: Array, reward: Array, next_obs: Array
    ) -> tuple[Any, Array]:
        """(carry', log P(r, x' | x, a, w)) up to a constant that all tasks share.

        Sees only what an agent sees; the factor of the exact posterior.
        """
        ...

    def hypotheses(self, num: int) -> tuple[Task, Array]:
        """Tasks that stand for all of W, [K, ...], and their log prior, [K].

        All tasks where W is finite (`num` is then ignored), a grid of about `num` elsewhere.
        """
        ...


@runtime_checkable
class HasIndependentArms(HasLikelihood, Protocol):
    """Its actions pay 1 with independent probabilities, uniform under p(w) and all there is to
    the task: the posterior is a Beta distribution for each, in closed form."""

    def of_probabilities(self, probabilities: Array) -> Task:
        """The task whose actions pay with `probabilities`, [num]."""
        ...


@runtime_checkable
class HasInformativeStart(HasLikelihood, Protocol):
    """Its first observation tells something of the task."""

    def start_log_likelihood(self, task: Task, obs: Array) -> Array:
        """log p0(x0 | w) of the first observation, up to a constant that all tasks share."""
        ...


@runtime_checkable
class HasDenseReward(Env, Protocol):
    """Has a second reward to learn from; agents see, and scores count, the one of `step`."""

    def dense_reward(self, next_obs: Array, task: Task) -> Array:
        """The reward for having come to `next_obs`, []."""
        ...


@runtime_checkable
class HasTrainingHelp(Env, Protocol):
    """Differs between training and test."""

    def at_test(self) -> Env:
        """The same environment without help that training may give; same shapes."""
        ...


def goal(env: Env) -> Callable[[Array, Task], Array]:
    """(obs, task) -> what to head for, in the family `spec.goal`: the task itself where the
    environment does not know better."""
    return env.goal if isinstance(env, HasGoal) else lambda obs, task: env.describe(task)


def at_test(env: Env) -> Env:
    """The environment that agents are scored in."""
    return env.at_test() if isinstance(env, HasTrainingHelp) else env


# ---- What an agent sees, and what only its teacher sees ---------------------------


class AgentInput(NamedTuple):
    """All that acting may see; time-major."""

    obs: Array  # [T, B, obs_dim]
    prev_action: Array  # [T, B, num] or [T, B]
    prev_reward: Array  # [T, B]
    episode_start: Array  # [T, B] bool: the state was reset, the task and the carry go on
    task_start: Array  # [T, B] bool: a new task; the carry is zeroed
    elapsed: Array  # [T, B] int32: steps since the episode began
    # [T, B, obs_dim]: the observation that the last action led to, which a reset replaces in
    # `obs`; None where no reset happens within a task, so that it would equal `obs`
    reached: Array | None = None


class Label(NamedTuple):
    """What only losses and evaluation may see."""

    h: Array  # [T, B, ...] in the family of the label
    reward: Array | None = None  # [T, B]: dense, to learn from in place of the sparse one
    task: Task = None  # [T, B, ...]: the hidden task, for privileged critics; None: they are off


class Teacher(NamedTuple):
    """Produces the label at each step, unbatched. It may follow the history."""

    # (carry, key, inputs, state, task) -> (carry, h)
    label: Callable[[Any, Key, AgentInput, State, Task], tuple[Any, Array]]
    init: Callable[[Array], Any] = lambda obs: ()  # (first observation) -> carry
    # (carry, obs, action, reward, next_obs) -> carry
    observe: Callable[..., Any] = lambda carry, *_: carry
    # (next_obs, task) -> dense reward to learn from; None: there is only the environment's
    reward: Callable[[Array, Task], Array] | None = None
    task: bool = False  # labels hold the task too, for privileged critics


# (key, obs, state, task) -> h: a label that depends on nothing but the moment
Momentary: TypeAlias = Callable[[Key, Array, State, Task], Array]


def momentary_teacher(say: Momentary) -> Teacher:
    """A teacher that remembers nothing."""
    return Teacher(
        lambda carry, key, inputs, state, task: (carry, say(key, inputs.obs, state, task))
    )


class Trajectory(NamedTuple):
    """B whole meta-episodes, time-major, from the zero carry.

    `action[t]` answers `inputs[t]`; `reward[t]` is its reward. `inputs` has one entry more:
    the last one is what the agent would have seen next (for bootstrapping).
    """

    inputs: AgentInput  # [T + 1, B, ...]
    action: Array  # [T, B, ...]
    log_prob: Array  # [T, B]: of `action` under the policy that took it
    reward: Array  # [T, B]
    terminated: Array  # [T, B] bool: the episode came to an end of its own
    episode_end: Array  # [T, B] bool: terminated, or out of time
    task_end: Array  # [T, B] bool: the last step of the meta-episode
    label: Label  # [T, B, ...]

    @property
    def learning_reward(self) -> Array:
        """[T, B]: the reward that actor and critic learn from."""
        return self.reward if self.label.reward is None else self.label.reward

    def discounts(self, gamma: float, *, bootstrap: bool) -> Array:
        """The discount on what follows each step, [T, B].

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
    """Single steps, each by itself, in any order."""

    obs: Array  # [..., obs_dim]
    action: Array  # [..., num] or [...]
    reward: Array  # [...]: what the agent saw
    learning_reward: Array  # [...]: what actor and critic learn from
    next_obs: Array  # [..., obs_dim]: what the action led to, before a reset
    terminated: Array  # [...] bool: the episode came to an end of its own


# ---- Agents and learners ----------------------------------------------------------


class Privileged(NamedTuple):
    """What a critic may read of the task while training, as networks read it."""

    size: int
    read: Callable[[Array, Task], Array]  # (obs [..., D], task [..., ...]) -> [..., size]


@dataclass(frozen=True)
class Needs:
    """What an agent or a learner needs, said by its `Config` before anything is made."""

    label: bool = False  # learns from labels, or is told them
    only_label: str = ""  # the one kind of label that it can use; "": any
    revealed: bool = False  # its observations end with the label
    posterior: bool = False  # the exact posterior
    several_episodes: bool = False  # tasks that last for more than one episode
    on_policy: bool = False  # what the present policy has just played, once
    privileged: bool = False  # the hidden task, for value functions alone
    only_learner: str = ""  # the one learner that an agent goes with; "": any that takes it


class Features(NamedTuple):
    """What became of the history."""

    actor: Array  # [T, B, D]: what the policy reads
    critic: Array  # [T, B, D']: what the value function reads
    belief: Array  # [T, B, H]: what the task head reads
    loss: Array  # [T, B]: the agent's own regulariser (information bottleneck), 0 if none


class Agent(NamedTuple):
    """What becomes of the history: a recurrent map from inputs to features.

    `unroll(params, carry, inputs, key)` with T = 1 is acting, with T = all is learning: one
    function. `key` None asks for the deterministic features (evaluation).
    """

    init: Callable[[Key], Params]
    initial_carry: Callable[[int], Carry]
    unroll: Callable[[Params, Carry, AgentInput, Key | None], tuple[Carry, Features]]
    aux_loss: Callable[[Params, Features, Label], tuple[Array, Metrics]]
    # log-likelihood of labels under the agent's own belief, [T, B]; None: it has no head
    belief_log_prob: Callable[[Params, Features, Label], Array] | None = None
    stochastic: bool = False  # features are drawn, where `unroll` has a key
    # features of single observations to learn from, for an agent whose history is a set of
    # transitions: (params, context [C, N, ...], obs [n, N, obs_dim], key) -> features [n, N, ...]
    # under one draw for each of N tasks
    infer_offline: Callable[[Params, Transition, Array, Key], Features] | None = None
    context: int = 0  # C: transitions of a task that `infer_offline` wants
    # E[h] under the agent's own belief, [T, B, ...]; of categories their probabilities
    belief_mean: Callable[[Params, Features], Array] | None = None
    # of labels that are numbers: the mass of the belief below the true ones, [T, B, num]; None:
    # labels are categories, or it has no head
    belief_cdf: Callable[[Params, Features, Label], Array] | None = None
    needs: Needs = Needs()
    # params -> [K, D]: what it has learnt of each training task; None: it does not know them
    table: Callable[[Params], Array] | None = None


class ReplayKind(NamedTuple):
    """A replay: functions of its own pytree `buffer`, whose `rows` have rings, which can live on
    devices of their own, as their first axis."""

    # (capacity in meta-episodes, example [T (+ 1), B, ...], rings) -> empty buffer
    init: Callable[[int, Trajectory, int], Any]
    add: Callable[[Any, Trajectory], Any]  # (buffer, what was played) -> buffer
    # (buffer, key, num) -> what an update learns from, [., num, ...], equal shares of each ring
    sample: Callable[[Any, Key, int], Any]
    # (buffer, num) -> [num]: the training tasks to play next; None: any, at random
    tasks: Callable[[Any, int], Array] | None = None


class Learner(NamedTuple):
    """What becomes of the features: policy, values and their losses.

    `act(params, carry, inputs, key)` samples; with `key` None it takes the mode.
    """

    init: Callable[[Key], Any]
    act: Callable[[Params, Carry, AgentInput, Key | None], tuple[Carry, Array, Array]]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]  # (state, sample, key)
    needs: Needs = Needs()
    steps: int = 1  # of the optimiser in one update
    replay: ReplayKind | None = None  # None: whole meta-episodes, sampled uniformly
