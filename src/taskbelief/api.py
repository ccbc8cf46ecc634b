"""Training, loading and playing agents from Python.

    trained = taskbelief.train("bandit", agent="belief", steps=100_000, hidden=32)
    trained.save("mine")
    taskbelief.load("mine").evaluate()["eval/holdout/score"]

Errors of usage raise ValueError, with the same sentences as on the command line.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from taskbelief import evaluation, exam, posterior, rollout, scoring, types
from taskbelief.card import Card, calibrated
from taskbelief.evaluation import Evaluation, References
from taskbelief.exam import Exam
from taskbelief.runs import Failed, Refused, config, parts
from taskbelief.runs.config import RunConfig
from taskbelief.trainer import Trainer
from taskbelief.training import TrainState
from taskbelief.types import (
    AgentInput,
    Array,
    Carry,
    Env,
    HasLikelihood,
    Key,
    Metrics,
    Params,
    State,
    Task,
    Teacher,
)

_PARAMS = "params.npz"  # beside config.json: a saved agent
_REFERENCES = "references.json"  # what it is scored by, where a run has measured that


class Progress(NamedTuple):
    """Progress of a training."""

    env_steps: int  # agent steps taken
    total_steps: int
    metrics: dict[str, float]  # means over the iterations since the last report


class Rollout(NamedTuple):
    """A meta-episode on each of B tasks, time-major."""

    state: State  # [T, B, ...]: of the environment, before each action
    obs: Array  # [T, B, D]: before each action
    action: Array  # [T, B, ...]
    reward: Array  # [T, B]
    belief: Array | None  # [T, B, ...]: the expected label; None: the agent has no belief
    posterior: Array | None  # [T, B, ...]: the same under the exact posterior, where there is one


@dataclass(frozen=True)
class Trained:
    """An agent with its parameters. Its actions are deterministic."""

    config: RunConfig
    trainer: Trainer
    params: Params
    # what its run is scored by, {task set: {reference policy: mean return}}; None: measured anew
    references: Mapping[str, Mapping[str, float]] | None = None

    @property
    def env(self) -> Env:
        """The environment in which it is evaluated."""
        return types.at_test(self.trainer.problem.env)

    def initial_carry(self, batch: int) -> Carry:
        """Returns the zero carry of `batch` meta-episodes."""
        return self.trainer.agent.initial_carry(batch)

    def act(self, carry: Carry, inputs: AgentInput) -> tuple[Carry, Array]:
        """Returns (carry, actions [B, ...]) for inputs [1, B, ...]."""
        carry, action, _ = self.trainer.learner.act(self.params, carry, inputs, None)
        return carry, action

    def evaluate(self) -> dict[str, float]:
        """Returns scores on the training and the hold-out tasks, named as in a run's metrics.csv;
        returns in place of scores where the environment has no expert."""
        return exam.scores(self.trainer, *self._examined())

    def card(self, tasks: str | Task = "holdout", num: int | None = None, seed: int = 0) -> Card:
        """Returns the agent's card, as `taskbelief.score` does; by default it is the evaluation's.

        Args: as of `taskbelief.score`.

        Raises:
          ValueError: there are no such tasks, or the agent is not defined on them.
        """
        trainer = self.trainer
        name, chosen = scoring.task_list(self.env, tasks, num or self.config.evaluation_tasks, seed)
        by_index = trainer.problem.label.names_training_task
        if by_index and trainer.agent.needs.revealed and name != "train":
            raise ValueError(
                "tasks: must be train, because this agent observes the index of its training task"
            )
        beside = scoring.beside(self.env, name, chosen, seed, scoring.SHOWN)
        if name in exam.SPLITS and num is None and seed == 0:
            found = exam.cards(trainer, *self._examined())[name]
        else:
            play_key, compare_key = jax.random.split(jax.random.key(seed))
            played = jax.device_get(jax.jit(trainer.evaluate)(self.params, chosen, play_key))
            if by_index and name != "train":
                played = played._replace(label_nll=None)
            kl, compared = None, jax.tree.map(lambda leaf: leaf[: self.config.belief_tasks], chosen)
            if trainer.compare is not None and self.config.belief_tasks:
                compare = jax.jit(trainer.compare)
                kl = compare(self.params, self.params, compared, compare_key)
            found = exam.of(trainer, name, played, scoring.ends(beside), kl)
        calibration = None
        if trainer.calibrate is not None and found.label_nll is not None:
            tally = jax.jit(trainer.calibrate)(self.params, chosen, jax.random.key(seed))
            calibration = calibrated(tally)
        called = f"{self.config.agent_name}, {self.config.learner_name}"
        return dataclasses.replace(found, policy=called, beside=beside, calibration=calibration)

    def _examined(
        self,
    ) -> tuple[Exam, dict[str, References | None], tuple[Evaluation, Array | None]]:
        """Returns the run's evaluation, the references of its scores, and what it found."""
        chosen = self.config
        asked = exam.make(self.trainer, chosen.evaluation_tasks, chosen.belief_tasks)
        found = jax.device_get(jax.jit(asked.evaluate)(self.params))
        return asked, {split: self._references(asked, split) for split in exam.SPLITS}, found

    def _references(self, asked: Exam, split: str) -> References | None:
        if self.references is not None:
            return evaluation.references(self.references[split])
        return scoring.ends(scoring.beside(self.env, split, asked.of(split), 0, scoring.ENDS))

    def rollout(self, tasks: Task, key: Key) -> Rollout:
        """Plays `tasks`, [B, ...], and records the agent's beliefs and the exact posterior."""
        return jax.jit(self._rollout)(self.params, tasks, key)

    def _rollout(self, params: Params, tasks: Task, key: Key) -> Rollout:
        trainer, problem = self.trainer, self.trainer.problem.at_test()
        agent, seen = trainer.agent, problem.seen(trainer.agent.needs)
        carry = agent.initial_carry(rollout.batch_size(tasks))
        played = rollout.collect(
            seen.env,
            tasks,
            key,
            lambda carry, inputs, _: trainer.learner.act(params, carry, inputs, None),
            carry,
            Teacher(lambda carry, key, inputs, state, task: (carry, state)),
        )
        inputs = jax.tree.map(lambda leaf: leaf[:-1], played.inputs)
        belief = None
        if agent.belief_mean is not None:
            features = agent.unroll(params["agent"], carry, inputs, None)[1]
            belief = agent.belief_mean(params["agent"], features)
        known = None
        if problem.label.exact is not None and isinstance(problem.env, HasLikelihood):
            known = _known(problem.env, problem.label.exact.expected, played)
        states = played.label.h
        return Rollout(states, inputs.obs, played.action, played.reward, belief, known)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the agent into the directory `path`, for `load`.

        Raises:
          Refused: the directory exists and is not empty.
        """
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Refused(f"{folder} exists and is not empty")
        folder.mkdir(parents=True, exist_ok=True)
        record = {"config": config.to_json(self.config)}
        (folder / "config.json").write_text(json.dumps(record, indent=1) + "\n")
        named = {name: np.asarray(leaf) for name, leaf in _named(self.params).items()}
        np.savez(folder / _PARAMS, **named)  # type: ignore[arg-type]
        if self.references is not None:
            kept = {
                split: {policy: {"mean": mean} for policy, mean in of_split.items()}
                for split, of_split in self.references.items()
            }
            (folder / _REFERENCES).write_text(json.dumps(kept, indent=1) + "\n")


def _known(env: Env, expected: Callable, played: types.Trajectory) -> Array:
    """Returns E[label] under the exact posterior, [T, B, ...]; one meta-episode at a time."""
    exact = posterior.make(env, 500)

    def one(xs: tuple[tuple[Array, Array | None], Array, Array]) -> Array:
        observed, action, reward = xs
        # an oracle's observations end with the label
        obs, reached = jax.tree.map(lambda leaf: leaf[:, : env.spec.obs_dim], observed)
        beliefs = posterior.along(exact, obs, action, reward, reached)
        beliefs = jax.tree.map(lambda leaf: leaf[:-1], beliefs)
        return expected(exact, beliefs, obs[:-1])

    history = (played.inputs.obs, played.inputs.reached), played.action, played.reward
    by_task = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), history)
    return jnp.moveaxis(jax.lax.map(one, by_task), 0, 1)


# ---- training ---------------------------------------------------------------------


def train(
    env: str | Env,
    agent: str = "belief",
    learner: str | None = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    preset: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> Trained:
    """Trains an agent; the same arguments give the same bits.

    Args:
      env: a name (its own file's, a registered one, "package.module:Class") or an environment.
      agent, learner: their names; learner None: the agent's usual one (svg0; of pearl, sac).
      steps: agent steps in total; None: of the preset.
      seed: of all random numbers.
      preset: "cpu" or "paper"; None: cpu on a CPU, paper elsewhere.
      progress: called after each part of training, `rows` times (200).
      settings: any flag of the command line, by its whole name (`**{"agent.hidden": 8}`) or by
        its last part where that is clear (`hidden=8`, `label="expert_goal"`, `envs=16`).

    Raises:
      ValueError: an unknown name, or parts that do not fit together, in one sentence.
    """
    chosen = configure(env, agent, learner, steps=steps, seed=seed, preset=preset, **settings)
    made, length = parts.build(chosen)
    state = jax.jit(made.init)(jax.random.key(seed))
    advance = jax.jit(_advance(made), donate_argnums=0)
    ends = np.unique(np.round(np.linspace(0, length.iterations, chosen.rows + 1)).astype(int))
    for start, end in itertools.pairwise(ends):
        state, sums = advance(state, np.int32(end - start), np.int32(length.collections(start)))
        if progress is not None:
            means = {name: float(value) / int(end - start) for name, value in sums.items()}
            progress(Progress(int(state.env_steps), length.steps(length.iterations), means))
    return Trained(chosen, made, state.learner.params)


def _advance(made: Trainer) -> Callable[[TrainState, Array, Array], tuple[TrainState, Metrics]]:
    """Returns the function (state, num, collections) -> (state, sums of metrics) of `num`
    iterations, the first of which has `collections`."""

    def advance(state: TrainState, num: Array, collections: Array) -> tuple[TrainState, Metrics]:
        shapes = jax.eval_shape(made.step, state)[1]
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def body(number: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = made.step(carry[0], jnp.where(number == 0, collections, 1))
            return state, jax.tree.map(jnp.add, carry[1], metrics)

        return jax.lax.fori_loop(0, num, body, (state, zero))

    return advance


def train_function(
    env: str | Env, agent: str = "belief", learner: str | None = None, **settings: Any
) -> Callable[[Key], tuple[Params, Metrics]]:
    """Returns training as a pure function, for `jit`, and for `vmap` over seeds.

    Args: those of `train`.

    Returns:
      key -> (parameters, metrics [iterations] each).
    """
    made, length = parts.build(configure(env, agent, learner, **settings))
    collections = np.array([length.collections(number) for number in range(length.iterations)])

    def run(key: Key) -> tuple[Params, Metrics]:
        state, metrics = jax.lax.scan(made.step, made.init(key), collections)
        return state.learner.params, metrics

    return run


def configure(
    env: str | Env,
    agent: str = "belief",
    learner: str | None = None,
    *,
    preset: str | None = None,
    **settings: Any,
) -> RunConfig:
    """Returns the config of a training: a preset with changed `settings` (see `train`).

    Raises:
      ValueError: an unknown name, or an invalid value.
    """
    if preset is None:
        preset = "cpu" if jax.default_backend() == "cpu" else "paper"
    chosen = config.default(env, agent, learner or config.usual_learner(agent), preset)
    for name, value in settings.items():
        if value is not None:
            chosen = _with(chosen, name, value)
    if chosen.num_seeds > 1 or chosen.replay_memory:
        raise Refused(
            "num_seeds and replay_memory are the command line's: vmap train_function over keys,"
            " and set replay_rows"
        )
    config.check(chosen)
    return chosen


def _with(chosen: RunConfig, name: str, value: Any) -> RunConfig:
    groups = {group: getattr(chosen, group) for group in config.GROUPS}
    own = ("env_name", "agent_name", "learner_name", "preset", *groups)
    flags = [field.name for field in dataclasses.fields(chosen) if field.name not in own]
    whole = {
        f"{group}.{field.name}": group
        for group, settings in groups.items()
        for field in dataclasses.fields(settings)
    }
    matching = [flag for flag in (*flags, *whole) if name in (flag, flag.rpartition(".")[2])]
    if len(matching) != 1:
        raise Refused(
            f"unclear setting {name!r}: choose from {', '.join(matching)}"
            if matching
            else config.unknown("setting", name, [*flags, *(w.rpartition(".")[2] for w in whole)])
        )
    (flag,) = matching
    if flag in flags:
        return dataclasses.replace(chosen, **{flag: value})
    group, _, field = flag.rpartition(".")
    return dataclasses.replace(
        chosen, **{group: dataclasses.replace(groups[group], **{field: value})}
    )


# ---- loading ----------------------------------------------------------------------


def load(path: str | os.PathLike, seed: int | None = None) -> Trained:
    """Loads a saved agent, or the newest good checkpoint of a run of the command line.

    Args:
      path: directory of the agent or of the run.
      seed: one of the run's seeds; None: the first.

    Raises:
      ValueError: there is neither, or it is of another version.
      RuntimeError: the run has no good checkpoint.
    """
    folder = Path(path)
    chosen = config.load(folder)
    made = parts.build(dataclasses.replace(chosen, num_seeds=1)).trainer
    seed = chosen.seed if seed is None else seed
    own = dataclasses.replace(chosen, seed=seed, num_seeds=1)
    if not (folder / _PARAMS).exists():
        return Trained(own, made, parts.params(folder, chosen, made, seed), _scored_by(folder))
    like = jax.eval_shape(made.learner.init, jax.eval_shape(jax.random.key, 0)).params
    with np.load(folder / _PARAMS) as saved:
        for name, leaf in _named(like).items():
            if name not in saved or saved[name].shape != leaf.shape:
                raise Failed(f"{folder} holds no agent of this version: {name} is missing")
        leaves = [jnp.asarray(saved[name]) for name in _named(like)]
    return Trained(own, made, jax.tree.structure(like).unflatten(leaves), _scored_by(folder))


def _scored_by(folder: Path) -> dict[str, dict[str, float]] | None:
    """Returns the references that a run keeps."""
    path = folder / _REFERENCES
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    return {
        split: {policy: entry["mean"] for policy, entry in kept[split].items()}
        for split in exam.SPLITS
    }


def _named(tree: Any) -> dict[str, Any]:
    """{name: leaf}"""
    paths = jax.tree.flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
