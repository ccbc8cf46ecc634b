"""The words of the library: what an environment, an agent and a learner are made of.

Axes in shape comments: T time steps, B meta-episodes side by side (the batch),
D features, H units of a recurrent core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array  # a new-style key from jax.random.key, used once
Params: TypeAlias = Any  # a pytree of arrays
Core: TypeAlias = Any  # the memory of an agent, a pytree of [B, ...]
State: TypeAlias = Any  # the state x of an environment, its own NamedTuple
Task: TypeAlias = Any  # the task w, an environment's own NamedTuple
Metrics: TypeAlias = dict[str, Array]


# ---- What an environment declares -------------------------------------------------


@dataclass(frozen=True)
class Continuous:
    """Actions in the box [-1, 1]^num, float32 of shape [num]."""

    num: int


@dataclass(frozen=True)
class Discrete:
    """Actions 0 ... num - 1, int32 of shape []."""

    num: int


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


@dataclass(frozen=True)
class EnvSpec:
    """Static facts of an environment.

    A meta-episode is `episodes_per_task` episodes of at most `episode_steps` steps on one
    task; all counts are in agent steps. Rewards lie in `reward_range`.
    """

    obs_dim: int
    action: ActionSpec
    task: LabelSpec  # the distribution family of the task description h
    goal: LabelSpec  # the family of what the expert heads for
    episode_steps: int
    episodes_per_task: int = 1
    reward_range: tuple[float, float] = (0.0, 1.0)
    has_expert: bool = True  # `Env.expert` is scripted; else only a trained oracle can stand in
    terminates: bool = False  # episodes may end before their time

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
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

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

    def at_test(self) -> Env:
        """The same environment without help that training may give; same shapes."""
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

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """The action of a scripted policy that knows w, where `spec.has_expert`."""
        ...

    def goal(self, obs: Array, task: Task) -> Array:
        """What the expert heads for now, in the family `spec.goal`: its action before control."""
        ...

    def initial_memory(self, task: Task) -> Any:
        """What a hypothesis carries along a history (its own pytree), before step 0."""
        ...

    def log_likelihood(
        self, task: Task, memory: Any, obs: Array, action: Array, reward: Array, next_obs: Array
    ) -> tuple[Any, Array]:
        """(memory', log P(r, x' | x, a, w)) up to a constant that all tasks share.

        Sees only what an agent sees; the factor of the exact posterior.
        """
        ...

    def hypotheses(self, num: int) -> tuple[Task, Array]:
        """Tasks that stand for all of W, [K, ...], and their log prior, [K].

        All tasks where W is finite (`num` is then ignored), a grid of about `num` elsewhere.
        """
        ...

    def distance(self, state: State, task: Task) -> Array:
        """How far the next goal of `task` is, so that the explorer can take the nearest."""
        ...


@runtime_checkable
class HasInformativeStart(Protocol):
    """An environment whose first observation tells something of the task."""

    def start_log_likelihood(self, task: Task, obs: Array) -> Array:
        """log p0(x0 | w) of the first observation, up to a constant that all tasks share."""
        ...


# ---- What an agent sees, and what only its teacher sees ---------------------------


class AgentInput(NamedTuple):
    """All that acting may see; time-major."""

    obs: Array  # [T, B, obs_dim]
    prev_action: Array  # [T, B, num] or [T, B]
    prev_reward: Array  # [T, B]
    episode_start: Array  # [T, B] bool: the state was reset, the task and the core go on
    task_start: Array  # [T, B] bool: a new task; the core is zeroed
    elapsed: Array  # [T, B] int32: steps since the episode began
    # [T, B, obs_dim]: the observation that the last action led to, which a reset replaces in
    # `obs`; None where no reset happens within a task, so that it would equal `obs`
    reached: Array | None = None


class Label(NamedTuple):
    """What only losses and evaluation may see."""

    h: Array  # [T, B, ...] in the family of the label
    reward: Array | None = None  # [T, B]: dense, to learn from in place of the sparse one
    task: Task = None  # [T, B, ...]: the hidden task, for privileged critics; None: they are off


class Trajectory(NamedTuple):
    """B whole meta-episodes, time-major, from the zero core.

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
    def paid(self) -> Array:
        """[T, B]: the reward that actor and critic learn from."""
        return self.reward if self.label.reward is None else self.label.reward


# ---- What can be known of the task -----------------------------------------------


class ExactFilter(Protocol):
    """The exact posterior over tasks, as far as an agent may have it (see posterior.py).

    Unbatched; beliefs are pytrees.
    """

    @property
    def init(self) -> Callable[[Array], Any]:
        """(first observation) -> belief."""
        ...

    @property
    def update(self) -> Callable[[Any, Array, Array, Array, Array], Any]:
        """(belief, obs, action, reward, next_obs) -> belief."""
        ...

    @property
    def statistics(self) -> Callable[[Any, Array], Array]:
        """(belief, obs) -> [S] float32: the belief as networks read it."""
        ...


# ---- Agents and learners ----------------------------------------------------------


class Privileged(NamedTuple):
    """What a critic may read of the task while training, as networks read it."""

    size: int
    read: Callable[[Array, Task], Array]  # (obs [obs_dim], task) -> [size]


class Features(NamedTuple):
    """What became of the history."""

    actor: Array  # [T, B, D]: what the policy reads
    critic: Array  # [T, B, D']: what the value function reads
    belief: Array  # [T, B, H]: what the task head reads
    loss: Array  # [T, B]: the agent's own regulariser (information bottleneck), 0 if none


class Agent(NamedTuple):
    """What becomes of the history: a recurrent map from inputs to features.

    `unroll(params, core, inputs, key)` with T = 1 is acting, with T = all is learning: one
    function. `key` None asks for the deterministic features (evaluation).
    """

    init: Callable[[Key], Params]
    initial_core: Callable[[int], Core]
    unroll: Callable[[Params, Core, AgentInput, Key | None], tuple[Core, Features]]
    aux_loss: Callable[[Params, Features, Label], tuple[Array, Metrics]]
    # log-likelihood of labels under the agent's own belief, [T, B]; None: it has no head
    belief_log_prob: Callable[[Params, Features, Label], Array] | None = None
    stochastic: bool = False  # features are drawn, where `unroll` has a key
    # features of whole meta-episodes to learn from, where they are not those of acting:
    # (params, inputs [T + 1, B, ...], key) -> features; the same key draws alike
    study: Callable[[Params, AgentInput, Key], Features] | None = None


class Learner(NamedTuple):
    """What becomes of the features: policy, values and their losses.

    `act(params, core, inputs, key)` samples; with `key` None it takes the mode.
    """

    init: Callable[[Key], Any]
    act: Callable[[Params, Core, AgentInput, Key | None], tuple[Core, Array, Array]]
    update: Callable[[Any, Trajectory, Key], tuple[Any, Metrics]]
    on_policy: bool = False  # updates want what the present policy has just played
    steps: int = 1  # of the optimiser in one update
