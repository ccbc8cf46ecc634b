"""Configuration of a run, and its representation in config.json."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskbelief import parallel, registry, training
from taskbelief.runs import Refused, presets
from taskbelief.types import Env


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines the results of a run: equal configs give equal bits."""

    env_name: str
    """environment"""
    agent_name: str
    """agent: the map from the history to features"""
    learner_name: str
    """learner: policy, value functions and losses"""
    env: Any  # the environment's dataclass of settings
    agent: Any  # the agent's Config
    learner: Any  # the learner's Config
    train: training.Config
    preset: str = "cpu"
    """sizes and hyperparameters: cpu or paper (default: cpu on a CPU, paper elsewhere)"""
    label: str = "description"
    """target of the belief in training: description (of the task), expert_action, expert_goal (the
    expert's next goal), posterior_goal (the goal on a draw from the posterior), task_index (of the
    training task) or task_embedding (a trained oracle's vector for the training task)"""
    expert: str = ""
    """run of an oracle that provides labels: of any oracle for expert_action (default: the scripted
    expert), of one with --condition embedding for task_embedding"""
    dense: bool = False
    """whether actor and critic learn from the environment's dense reward (sparse_navigation: minus
    the distance), as in published PEARL; observations and scores use the sparse reward"""
    seed: int = 0
    """seed of all random numbers in training"""
    num_seeds: int = 1
    """number of runs in one program, with seeds seed, seed + 1, ...; each gives the results of a
    run alone"""
    replay_memory: str = ""
    """size of the replay in bytes, such as 500MB or 2GB, in place of train.replay_rows"""
    steps: int = 800_000
    """agent steps in the environment, in total (rounded up to whole iterations); the learning rate
    decays over them"""
    rows: int = 200
    """rows of training metrics in metrics.csv over the whole run"""
    evaluations: int = 16
    """evaluations over the whole run, in addition to the one before training"""
    evaluation_tasks: int = 1000
    """maximum number of tasks of each set in an evaluation"""
    belief_tasks: int = 64
    """hold-out tasks on which each evaluation compares the learned belief with the exact posterior
    (KL in nats per step); 0: none"""


GROUPS = ("env", "agent", "learner", "train")


def default(env: str | Env, agent: str, learner: str, size: str) -> RunConfig:
    """Returns the preset `size` for this combination; an environment given as an instance is kept.

    Raises:
      ValueError: an unknown name, or a departure without a field.
    """
    name = env if isinstance(env, str) else registry.name_of(env)
    return _with(env, agent, learner, size, presets.departures(size, name, agent, learner))


def without_preset(config: RunConfig) -> RunConfig:
    """Returns the defaults of the same components, from which presets depart."""
    names = config.env_name, config.agent_name, config.learner_name
    return _with(*names, config.preset, {})


def _with(
    env: str | Env, agent: str, learner: str, size: str, departures: presets.Departures
) -> RunConfig:
    name = env if isinstance(env, str) else registry.name_of(env)
    groups = {
        "env": registry.factory(env) if isinstance(env, str) else lambda **_: env,
        "agent": registry.find("agents", agent).Config,
        "learner": registry.find("learners", learner).Config,
        "train": training.Config,
        "": lambda **fields: fields,
    }
    settings: dict[str, dict[str, Any]] = {group: {} for group in groups}
    for flag, value in departures.items():
        group, _, field = flag.rpartition(".")
        settings[group][field] = value
    on_policy = groups["learner"]().needs.on_policy
    settings["train"].setdefault("shards", _usual_shards(settings["train"], on_policy))
    made = {group: build(**settings[group]) for group, build in groups.items()}
    return RunConfig(name, agent, learner, preset=size, **made.pop(""), **made)


# The smallest part of a batch that is worth a device of its own: on two cores an update of four
# meta-episodes is 1.2 times as fast on one of them as on both.
_LEAST_PART = 4


def _usual_shards(given: Any, on_policy: bool) -> int:
    """Returns the usual number of parts, or fewer where collection, replay and batches are
    small."""
    sizes = training.Config(**given)
    usual = math.gcd(parallel.usual_parts(), sizes.batch, sizes.envs, sizes.replay_rows)
    return usual if on_policy else math.gcd(usual, max(1, sizes.batch // _LEAST_PART))


def unknown(what: str, name: str, choices: Sequence[str]) -> str:
    """Returns a sentence with the nearest of `choices`."""
    near = nearest(name, choices)
    hint = f"; did you mean {near}?" if near else ""
    return f"unknown {what} {name!r}: choose from {', '.join(choices)}{hint}"


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Returns the most similar choice by letters, words or initials: "learner.learning_rate" for
    "lr", "train.batch" for "batch-size"; None: no choice is similar."""
    likenesses = {choice: _likeness(name, choice) for choice in choices}
    best = max(likenesses, key=likenesses.__getitem__, default=None)
    return best if best is not None and likenesses[best] >= 0.5 else None


_EMPTY_WORDS = {"n", "num", "number", "of", "size"}


def _likeness(name: str, choice: str) -> float:
    """Returns 0 for nothing in common, 1 for the same name; the group, before the dot, counts
    little."""
    groups, (left, right) = zip(
        *(text.rpartition(".")[::2] for text in (name, choice)), strict=True
    )
    left, right = (re.findall("[a-z0-9]+", text.lower()) for text in (left, right))
    letters = difflib.SequenceMatcher(None, "_".join(left), "_".join(right)).ratio()
    words, meant = set(left) - _EMPTY_WORDS, set(right) - _EMPTY_WORDS
    shared = len(words & meant) / max(1, len(words | meant))
    initials = len(right) > 1 and "".join(left) == "".join(word[0] for word in right)
    likeness = max(letters if letters > 0.6 else 0.0, shared, 0.9 * initials)
    return likeness + 0.05 * (groups[0] == groups[1])


def uses_label(agent: str) -> bool:
    """Returns whether the agent of that name uses labels."""
    return registry.find("agents", agent).Config().needs.label


def usual_learner(agent: str) -> str:
    """Returns the default learner of the agent of that name."""
    return registry.find("agents", agent).Config().needs.only_learner or "svg0"


def label_in_use(config: RunConfig) -> str:
    """Returns the name of the label in use: oracles that learn embeddings always use the index."""
    return config.agent.needs.only_label or config.label


def check(config: RunConfig) -> None:
    """Refuses invalid values that the types allow.

    Raises:
      Refused: one sentence that names the flag, its value and what it must be.
    """
    if config.agent.needs.revealed and config.expert:
        raise Refused(f"--expert {config.expert}: an oracle needs no expert; drop it")
    if config.label == "task_embedding" and not config.expert:
        raise Refused(
            "--label task_embedding needs --expert RUN: a run of --agent oracle"
            " --condition embedding on this environment"
        )
    if config.expert and config.label not in ("expert_action", "task_embedding"):
        raise Refused(
            f"--expert goes with --label expert_action or task_embedding, not {config.label}"
        )
    counts = ("steps", "rows", "evaluation_tasks", "num_seeds")
    sizes = {name: getattr(config, name) for name in counts}
    sizes |= {f"train.{name}": value for name, value in dataclasses.asdict(config.train).items()}
    for name, value in sizes.items():
        if value < 1:
            raise Refused(f"--{name} {value}: must be at least 1")
    for name in ("seed", "evaluations", "belief_tasks"):
        if getattr(config, name) < 0:
            raise Refused(f"--{name} {getattr(config, name)}: must not be negative")
    made, rows = config.train.envs, config.train.replay_rows
    if rows % made or rows < made * config.train.warmup:
        raise Refused(
            f"--train.replay_rows {rows}: must be a multiple of --train.envs {made} and hold"
            f" --train.warmup {config.train.warmup} times as many"
        )


# ---- to and from a run's config.json ----------------------------------------------


def to_json(config: RunConfig) -> dict[str, Any]:
    """Returns the config as plain values."""
    return dataclasses.asdict(config)


def from_json(values: Mapping[str, Any]) -> RunConfig:
    """Returns the config from the values of `to_json`.

    Raises:
      ValueError, TypeError, KeyError: the values are not a config of this version.
    """
    values = dict(values)
    names = values["env_name"], values["agent_name"], values["learner_name"]
    start = default(*names, values["preset"])
    for group in GROUPS:
        values[group] = type(getattr(start, group))(
            **_untuple(getattr(start, group), values[group])
        )
    return RunConfig(**values)


def load(run: Path) -> RunConfig:
    """Returns the config of the run in directory `run`.

    Raises:
      Refused: there is none, or one of another version.
    """
    path = run / "config.json"
    if not path.is_file():
        raise Refused(f"{run} is not a run: it has no config.json")
    try:
        return from_json(json.loads(path.read_text())["config"])
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(f"{path} is no config of this version: {error}") from error


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Returns {flag: (value in one, value in other)} where they differ."""
    left, right = _flat(to_json(one)), _flat(to_json(other))
    return {
        flag: (left.get(flag), right.get(flag))
        for flag in left | right
        if left.get(flag) != right.get(flag)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _untuple(like: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts lists to tuples where the defaults are tuples, which JSON does not have."""
    return {
        name: tuple(value) if isinstance(getattr(like, name, None), tuple) else value
        for name, value in values.items()
    }
