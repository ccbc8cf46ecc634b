"""What a run is made of, and how that is kept in its config.json."""

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
    """All that decides the numbers of a run: equal configs give equal bits."""

    env_name: str
    """environment"""
    agent_name: str
    """what becomes of the history"""
    learner_name: str
    """what becomes of the features"""
    env: Any  # the environment's dataclass of settings
    agent: Any  # the agent's Config
    learner: Any  # the learner's Config
    train: training.Config
    preset: str = "cpu"
    """sizes and hyperparameters: cpu or paper (default: cpu on a CPU, paper elsewhere)"""
    label: str = "description"
    """what the teacher says while training: description (the task), expert_action, expert_goal
    (what the expert heads for), posterior_goal (the same for a draw from the posterior),
    task_index (which training task it is) or task_embedding (a trained oracle's vector for it)"""
    expert: str = ""
    """run of an oracle that gives the labels: of any oracle for expert_action (without one, the
    scripted expert does), of one with --condition embedding for task_embedding"""
    dense: bool = False
    """actor and critic learn from the environment's dense reward (sparse_navigation: minus the
    distance), as PEARL was published; agents see, and scores count, the sparse one"""
    seed: int = 0
    """of everything random in training"""
    num_seeds: int = 1
    """runs trained side by side in one program: of seed, seed + 1, ..., each as it were alone"""
    replay_memory: str = ""
    """bytes that the replay may take, as 500MB or 2GB, in place of train.replay_rows"""
    steps: int = 1_000_000
    """agent steps in the environment, all together (rounded up to whole iterations); the
    learning rate decays over them"""
    rows: int = 200
    """rows of training metrics in metrics.csv over the whole run"""
    evaluations: int = 40
    """evaluations over the whole run, beside the one before training"""
    evaluation_tasks: int = 1000
    """at most this many tasks of each set are played in an evaluation"""
    belief_tasks: int = 64
    """hold-out tasks on which, at each evaluation, the learned belief is held against the exact
    posterior (KL in nats per step); 0: none"""


GROUPS = ("env", "agent", "learner", "train")


def default(env: str | Env, agent: str, learner: str, size: str) -> RunConfig:
    """The preset `size` for this combination; an environment that is made already stays as it is.

    Raises:
      ValueError: an unknown name, or a departure that fits no field.
    """
    name = env if isinstance(env, str) else registry.name_of(env)
    return _with(env, agent, learner, size, presets.departures(size, name, agent, learner))


def without_preset(config: RunConfig) -> RunConfig:
    """The defaults of the same components, from which presets depart."""
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


# A smaller part of a batch does not pay for being computed on a device of its own: on two cores an
# update of four meta-episodes is 1.2 times as fast on one of them as on both.
_LEAST_PART = 4


def _usual_shards(given: Any, on_policy: bool) -> int:
    """As many parts as usual, as far as what is played, kept and learnt from can be divided."""
    sizes = training.Config(**given)
    usual = math.gcd(parallel.usual_parts(), sizes.batch, sizes.envs, sizes.replay_rows)
    return usual if on_policy else math.gcd(usual, max(1, sizes.batch // _LEAST_PART))


def unknown(what: str, name: str, choices: Sequence[str]) -> str:
    """A sentence with the nearest of `choices`."""
    near = nearest(name, choices)
    hint = f"; did you mean {near}?" if near else ""
    return f"unknown {what} {name!r}: choose from {', '.join(choices)}{hint}"


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant: by letters, by words or by initials, so that "lr" is
    "learner.learning_rate" and "batch-size" is "train.batch"; None: no choice is near."""
    likenesses = {choice: _likeness(name, choice) for choice in choices}
    best = max(likenesses, key=likenesses.__getitem__, default=None)
    return best if best is not None and likenesses[best] >= 0.5 else None


_EMPTY_WORDS = {"n", "num", "number", "of", "size"}


def _likeness(name: str, choice: str) -> float:
    """0 for nothing in common, 1 for the same name; the group, before the dot, counts little."""
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
    """Whether labels mean anything to the agent of that name."""
    return registry.find("agents", agent).Config().needs.label


def usual_learner(agent: str) -> str:
    """The learner of the agent of that name where nobody asks for another."""
    return registry.find("agents", agent).Config().needs.only_learner or "svg0"


def label_in_use(config: RunConfig) -> str:
    """The kind of label: oracles that learn embeddings are told the index, whatever is asked."""
    return config.agent.needs.only_label or config.label


def check(config: RunConfig) -> None:
    """Refuses what the types alone allow.

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
    """Plain values only."""
    return dataclasses.asdict(config)


def from_json(values: Mapping[str, Any]) -> RunConfig:
    """The config that `to_json` gave.

    Raises:
      ValueError, TypeError, KeyError: the values are no config of this version.
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
    """The config of the run in directory `run`.

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
    """{flag: (value in one, value in other)} where they differ."""
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
    """JSON knows lists only: tuples again where the defaults are tuples."""
    return {
        name: tuple(value) if isinstance(getattr(like, name, None), tuple) else value
        for name, value in values.items()
    }
