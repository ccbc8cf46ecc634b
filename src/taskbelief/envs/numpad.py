"""Numpad: press pads in a hidden order by rolling a ball onto them (Humplik et al. 2019).

A floor of size x size pads, like a telephone's. The task is a sequence of distinct,
neighbouring pads. A ball rolls on the floor; rolling onto a pad presses it. The next pad of
the sequence lights up when pressed; any other turns all lights out, and the sequence has
to be pressed again from its start. A pad gives reward 1 the first time it lights up since the last
completion, so that a repetition of the lit part after a mistake gives none. Completing the
sequence turns all lights out, and every pad can give its reward again. Rewards are sparse and
require a long memory: the agent has to find and remember the order.

Certain: the pads, the lights, the events that turn them out, the rewards, the optional jump
and cues. Our choice, because no source gives it: every number below, the gaps between the pads,
that a wrong press always turns the lights out (also the sequence's first pad), the start of the
ball, that the pad pressed last is observed, and mercy.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief.envs import _ball
from taskbelief.envs._settings import require, require_split, require_types
from taskbelief.types import Array, Categories, Continuous, EnvSpec, Key

# Log-likelihood of an observation that contradicts a hypothesis. It is finite, because rounding
# can put a ball at the rim of a pad on different sides in the compiled likelihood and in the
# compiled step, and one such event must not exclude the true task.
_RULED_OUT = -20.0


_CUES = ("none", "first", "next")


class Task(NamedTuple):
    sequence: Array  # [length] int32: pads in the order to press, row-major from lower left


class State(NamedTuple):
    position: Array  # [2] float32, in pad spacings from the centre of the floor
    velocity: Array  # [2] float32, in pad spacings per substep
    progress: Array  # [] int32: pads of the sequence that are lit
    earned: Array  # [] int32: pads rewarded since the last completion
    contact: Array  # [] int32: the pad under the ball, -1 for none (or while jumping)
    pressed: Array  # [] int32: the pad pressed last, -1 before the first
    cue: Array  # [length] bool: places of the sequence shown in the next observation
    mercy: Array  # [] float32: chance that a wrong press is forgiven, 0 at test


class HypothesisCarry(NamedTuple):
    """The part of `State` that depends on the hypothesis or is not observed."""

    earned: Array  # [] int32
    contact: Array  # [] int32


@dataclass(frozen=True)
class Numpad:
    size: int = 3
    """pads along each side (the paper's numpad looks 3 x 3)"""
    length: int = 4
    """pads in the hidden sequence [our choice]"""
    neighbours: int = 8
    """which pads may follow each other: 8 (Moore) or 4 (no diagonals) [our choice]"""
    horizon: int = 100
    """agent steps in a meta-episode; the expert presses about one pad a step [our choice]"""
    substeps: int = 4
    """physics substeps per agent step; the action is held [our choice]"""
    force: float = 0.25
    """largest force on each axis, in pad spacings per substep² [our choice]"""
    friction: float = 0.5
    """share of the velocity lost per substep [our choice]"""
    pad_half_width: float = 0.3
    """of a square pad, in pad spacings: below 0.5 leaves gaps to pass through [our choice]"""
    jump: bool = False
    """a third action; above 0 the ball passes over pads in that step without pressing"""
    cues: str = "none"
    """a block of the observation that can show some places of the sequence, for training only:
    none, first (all cued places, in the first observation), next (the pad to press next,
    whenever its place is cued) ["first" is the paper's, "next" ours]"""
    cue_share: float = 0.0
    """share of meta-episodes that are cued: in half of them every place is cued, in half each
    place with a chance drawn U(0, 1) [our choice]"""
    mercy_share: float = 0.0
    """share of meta-episodes in which wrong presses are forgiven (the lights stay on), each
    with a chance drawn U(0, 1) for the meta-episode: a curriculum, for training only [ours]"""
    train_tasks: int = 100
    """size of the training set; all remaining sequences are held out"""

    def __post_init__(self) -> None:
        require_types(self)
        require(self.size >= 2, "size", self.size, "at least 2")
        require(
            1 <= self.length <= self.size**2,
            "length",
            self.length,
            f"between 1 and size² = {self.size**2}",
        )
        require(self.neighbours in (4, 8), "neighbours", self.neighbours, "4 or 8")
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1")
        require(self.substeps >= 1, "substeps", self.substeps, "at least 1")
        require(self.force > 0, "force", self.force, "positive")
        require(0 <= self.friction < 1, "friction", self.friction, "in [0, 1)")
        require(
            0 < self.pad_half_width <= 0.5,
            "pad_half_width",
            self.pad_half_width,
            "in (0, 0.5], so that pads do not overlap",
        )
        require(0 <= self.cue_share <= 1, "cue_share", self.cue_share, "in [0, 1]")
        require(self.cues in _CUES, "cues", self.cues, f"one of {', '.join(_CUES)}")
        require(
            self.cues != "none" or self.cue_share == 0,
            "cue_share",
            self.cue_share,
            '0 where cues="none"',
        )
        require(0 <= self.mercy_share <= 1, "mercy_share", self.mercy_share, "in [0, 1]")
        num = len(_sequences(self.size, self.length, self.neighbours))
        require(num >= 2, "length", self.length, "such that two or more sequences exist")
        require(
            1 <= self.train_tasks < num,
            "train_tasks",
            self.train_tasks,
            f"at least 1 and less than the {num} sequences there are, so that some are held out",
        )

    @property
    def spec(self) -> EnvSpec:
        pads = self.size**2
        flags = pads + self.length + pads + pads * self._cued_pads
        fastest = self.force / self.friction if self.friction else np.inf
        return EnvSpec(
            obs_dim=4 + flags,
            action=Continuous(3 if self.jump else 2),
            task=Categories(self.length, pads, self._coordinates, origin=(0, 1)),
            goal=Categories(1, pads, self._coordinates, origin=(0, 1)),
            episode_steps=self.horizon,
            obs_range=((-self._wall, self._wall),) * 2
            + ((-fastest, fastest),) * 2
            + ((0.0, 1.0),) * flags,
            reward_range=(0.0, float(self.substeps)),
        )

    # ---- tasks

    def sample_task(self, key: Key) -> Task:
        """Draws a sequence, uniformly."""
        sequences = self._all_sequences
        return Task(sequences[jax.random.randint(key, (), 0, len(sequences))])

    def task_set(self, split: str, num: int | None = None) -> Task:
        """Returns the first `train_tasks` sequences of a fixed shuffle, or all others."""
        require_split(split)
        shuffled = np.random.Generator(np.random.PCG64(0)).permutation(
            _sequences(self.size, self.length, self.neighbours)
        )
        rest = slice(self.train_tasks, None)
        chosen = shuffled[: self.train_tasks] if split == "train" else shuffled[rest]
        require(num is None or 1 <= num <= len(chosen), "num", num, f"between 1 and {len(chosen)}")
        return Task(jnp.asarray(chosen[:num]))

    def describe(self, task: Task) -> Array:
        return task.sequence

    def hypotheses(self, num: int = 0) -> tuple[Task, Array]:
        """Returns all sequences, equally probable (`num` is ignored)."""
        sequences = self._all_sequences
        return Task(sequences), jnp.full(len(sequences), -np.log(len(sequences)), jnp.float32)

    def at_test(self) -> Numpad:
        """Returns the same numpad without cues or mercy, with observations of the same shape."""
        return replace(self, cue_share=0.0, mercy_share=0.0)

    # ---- dynamics

    def reset(self, key: Key, task: Task) -> tuple[Array, State]:
        """Turns all lights out and puts the ball at rest at a random position."""
        place, cued, chance, shown, merciful, mercy = jax.random.split(key, 6)
        wall = self._wall
        position = jax.random.uniform(place, (2,), minval=-wall, maxval=wall)
        zero = jnp.zeros((), jnp.int32)
        shows = jax.random.uniform(shown, (self.length,)) < jax.random.uniform(chance, maxval=2.0)
        state = State(
            position=position,
            velocity=jnp.zeros(2),
            progress=zero,
            earned=zero,
            contact=self._pad_under(position),
            pressed=jnp.full((), -1, jnp.int32),
            cue=shows & (jax.random.uniform(cued) < self.cue_share),
            mercy=jnp.where(
                jax.random.uniform(merciful) < self.mercy_share, jax.random.uniform(mercy), 0.0
            ),
        )
        return self._observe(state, task), state._replace(cue=state.cue & (self.cues == "next"))

    def step(
        self, key: Key, state: State, action: Array, task: Task
    ) -> tuple[Array, State, Array, Array]:
        """Rolls the ball for `substeps` by the force `action`, [2] (or [3]) in [-1, 1], clipped,
        where NaN counts as 0; deterministic but for mercy."""
        action = self.spec.action.legal(action)
        forgiven = jnp.zeros(self.substeps, bool)
        if self.mercy_share:
            forgiven = jax.random.uniform(key, (self.substeps,)) < state.mercy
        state, reward = self._roll(state, action, forgiven, task)
        return self._observe(state, task), state, reward, jnp.zeros((), bool)

    def _roll(
        self, state: State, action: Array, forgiven: Array, task: Task
    ) -> tuple[State, Array]:
        """Returns state and reward of a step; `forgiven` [substeps]: wrong presses have no
        effect."""
        action = jnp.clip(action, -1.0, 1.0)
        jumping = action[2] > 0.0 if self.jump else jnp.zeros((), bool)
        reward = jnp.zeros(())
        for substep in range(self.substeps):
            position, velocity = _ball.roll(
                state.position,
                state.velocity,
                self.force * action[:2],
                friction=self.friction,
                wall=self._wall,
            )
            contact = jnp.where(jumping, -1, self._pad_under(position))
            pressed = (contact >= 0) & (contact != state.contact)
            state = state._replace(position=position, velocity=velocity, contact=contact)
            state, gain = self._press(state, pressed, forgiven[substep], task)
            reward = reward + gain
        return state, reward

    def _press(
        self, state: State, pressed: Array, forgiven: Array, task: Task
    ) -> tuple[State, Array]:
        """Returns lights and reward after a press of the pad in contact, if there is one."""
        right = state.contact == self._next_pad(state.progress, task)
        after_mistake = jnp.where(forgiven, state.progress, 0)
        progress = jnp.where(right, state.progress + 1, after_mistake)
        gain = progress > state.earned
        earned = jnp.maximum(state.earned, progress)
        complete = progress == self.length
        progress = jnp.where(complete, 0, progress)
        earned = jnp.where(complete, 0, earned)
        state = state._replace(
            progress=jnp.where(pressed, progress, state.progress),
            earned=jnp.where(pressed, earned, state.earned),
            pressed=jnp.where(pressed, state.contact, state.pressed),
        )
        return state, (pressed & gain).astype(jnp.float32)

    def _next_pad(self, progress: Array, task: Task) -> Array:
        """Compares each place of the sequence, which a CPU vectorises over hundreds of hypotheses;
        an index, or a sum over places, is not vectorised."""
        pad = task.sequence[0]
        for place in range(1, self.length):
            pad = jnp.where(progress == place, task.sequence[place], pad)
        return pad

    def _progress(self, obs: Array) -> Array:
        """Returns the number of lit pads, [] int32, from an observation."""
        pads = self.size**2
        return jnp.argmax(obs[4 + pads : 4 + pads + self.length]).astype(jnp.int32)

    def _observe(self, state: State, task: Task) -> Array:
        """Returns the observation [position 2, velocity 2, lights, one-hots of how many are lit and
        of the pad pressed last, cue]."""
        one_hots = jax.nn.one_hot(task.sequence, self.size**2)  # [length, pads]
        lit = jnp.arange(self.length) < state.progress
        parts = [
            state.position,
            state.velocity,
            jnp.sum(jnp.where(lit[:, None], one_hots, 0.0), axis=0),
            jax.nn.one_hot(state.progress, self.length),
            jax.nn.one_hot(state.pressed, self.size**2),
        ]
        cue = jnp.where(state.cue[:, None], one_hots, 0.0)
        if self.cues == "first":
            parts.append(cue.reshape(-1))
        elif self.cues == "next":
            parts.append(cue[state.progress])
        return jnp.concatenate(parts)

    # ---- references

    def expert(self, key: Key, state: State, task: Task) -> Array:
        """Rolls straight to the next pad of the sequence; off it first, if already on it."""
        del key
        target, _ = self._way(state, task)
        force = _ball.force_to_reach(
            target - state.position,
            state.velocity,
            friction=self.friction,
            substeps=self.substeps,
        )
        action = force / self.force
        action = action / jnp.maximum(1.0, jnp.max(jnp.abs(action)))  # keep the direction
        return jnp.append(action, -1.0) if self.jump else action

    def goal(self, obs: Array, task: Task) -> Array:
        """Returns the next pad of the sequence, [1]."""
        return self._next_pad(self._progress(obs), task)[None]

    def distance(self, state: State, task: Task) -> Array:
        """Returns the distance to the next pad of the sequence, in pad spacings; the way off it and
        back, if the ball is already on it."""
        target, back = self._way(state, task)
        return jnp.linalg.norm(target - state.position) + back

    def _way(self, state: State, task: Task) -> tuple[Array, Array]:
        """Returns the position to roll to, [2], and the remaining distance to the next pad, [].

        The ball has to leave a pad before it can press it again: the way then leads to the gap
        beside it first, on the side of the middle column.
        """
        pad = self._next_pad(state.progress, task)
        centre = jnp.asarray(self._coordinates)[pad]
        inwards = jnp.where(centre[0] > 0, -0.5, 0.5)
        gap = centre + jnp.stack([inwards, jnp.zeros(())])
        on_it = state.contact == pad
        return jnp.where(on_it, gap, centre), jnp.where(on_it, 0.5, 0.0)

    # ---- likelihood

    def initial_carry(self, task: Task) -> HypothesisCarry:
        del task
        return HypothesisCarry(earned=jnp.zeros((), jnp.int32), contact=jnp.full((), -2, jnp.int32))

    def log_likelihood(
        self,
        task: Task,
        carry: HypothesisCarry,
        obs: Array,
        action: Array,
        reward: Array,
        next_obs: Array,
    ) -> tuple[HypothesisCarry, Array]:
        """Returns 0 where `task` explains lights, reward and cue, about minus infinity
        elsewhere."""
        pads = self.size**2
        state = State(
            position=obs[:2],
            velocity=obs[2:4],
            progress=self._progress(obs),
            earned=carry.earned,
            contact=self._contact_before(carry, obs[:2]),
            pressed=jnp.full((), -1, jnp.int32),
            cue=jnp.zeros(self.length, bool),
            mercy=jnp.zeros(()),
        )
        lit_after = next_obs[4 : 4 + pads] > 0.5
        bits_after = jnp.sum(jnp.where(lit_after[:, None], _bits(jnp.arange(pads), pads), 0), 0)
        count_after = self._progress(next_obs)
        bits = _bits(task.sequence, pads)
        lit = [jnp.where(place < count_after, bits[place], 0) for place in range(self.length)]
        same_lights = jnp.all(functools.reduce(jnp.bitwise_or, lit) == bits_after)

        def explains(forgiven: bool) -> tuple[State, Array]:
            after, gain = self._roll(state, action, jnp.full(self.substeps, forgiven), task)
            return after, (after.progress == count_after) & (gain == reward)

        predicted, explained = explains(False)
        if self.mercy_share:  # a light that stayed on is evidence of mercy, not of the task
            explained |= explains(True)[1]
        explained &= same_lights
        if self.cues == "next":  # "first" shows no cue after the first observation
            explained &= self._explains_cue(task, next_obs)
        carry = HypothesisCarry(earned=predicted.earned, contact=predicted.contact)
        return carry, jnp.where(explained, 0.0, _RULED_OUT)

    def start_log_likelihood(self, task: Task, obs: Array) -> Array:
        """Returns 0 where `task` explains the cue in the first observation."""
        if self.cues == "none":
            return jnp.zeros(())
        return jnp.where(self._explains_cue(task, obs), 0.0, _RULED_OUT)

    def _explains_cue(self, task: Task, obs: Array) -> Array:
        pads = self.size**2
        shown = obs[4 + pads + self.length + pads :].reshape(self._cued_pads, pads)
        expected = task.sequence
        if self.cues == "next":
            expected = self._next_pad(self._progress(obs), task)[None]
        return jnp.all((jnp.sum(shown, -1) == 0) | (jnp.argmax(shown, -1) == expected))

    def _contact_before(self, carry: HypothesisCarry, position: Array) -> Array:
        """Returns the contact at the beginning of a step. Without jumps it is observed, so that the
        physics of a step is the same for all hypotheses and computed once under vmap."""
        under = self._pad_under(position)
        if not self.jump:
            return under
        return jnp.where(carry.contact == -2, under, carry.contact)  # -2: the first step

    # ---- geometry

    @property
    def _cued_pads(self) -> int:
        """Returns the number of pads in the cue block."""
        return {"none": 0, "first": self.length, "next": 1}[self.cues]

    @property
    def _wall(self) -> float:
        return self.size / 2

    @property
    def _coordinates(self) -> tuple[tuple[float, float], ...]:
        """Returns the centre (x, y) of each pad, in pad spacings from the centre of the floor."""
        middle = (self.size - 1) / 2
        return tuple((i % self.size - middle, i // self.size - middle) for i in range(self.size**2))

    @property
    def _all_sequences(self) -> Array:
        return jnp.asarray(_sequences(self.size, self.length, self.neighbours))

    def _pad_under(self, position: Array) -> Array:
        """Returns the pad that covers `position`, -1 for none."""
        middle = (self.size - 1) / 2
        cell = jnp.clip(jnp.round(position + middle), 0, self.size - 1)
        inside = jnp.all(jnp.abs(position + middle - cell) < self.pad_half_width)
        column, row = cell.astype(jnp.int32)
        return jnp.where(inside, row * self.size + column, -1)


def _bits(index: Array, num: int) -> Array:
    """Returns one bit for each `index` [K] below `num`, in the necessary number of words: int32
    [K, words]."""
    words = jnp.arange(-(-num // 31))
    return jnp.where(index[:, None] // 31 == words, 1 << (index[:, None] % 31), 0)


@functools.lru_cache
def _sequences(size: int, length: int, neighbours: int) -> np.ndarray:
    """Returns all sequences of distinct, neighbouring pads, [K, length] int32."""

    def adjacent(a: int, b: int) -> bool:
        dx, dy = abs(a % size - b % size), abs(a // size - b // size)
        return max(dx, dy) == 1 if neighbours == 8 else dx + dy == 1

    paths: list[tuple[int, ...]] = [(pad,) for pad in range(size**2)]
    for _ in range(length - 1):
        paths = [
            (*path, pad)
            for path in paths
            for pad in range(size**2)
            if pad not in path and adjacent(path[-1], pad)
        ]
    return np.asarray(paths, np.int32).reshape(-1, length)


make = Numpad
