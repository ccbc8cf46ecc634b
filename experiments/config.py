"""What a run is made of, and the command line that says so.

The command line is derived from the dataclasses: first the names (which environment, agent,
learner and preset), which decide what other flags there are; then every field as a flag.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments import devices, memory, presets, stop
from taskbelief import registry, train, types
from taskbelief.networks import cores


@dataclass(frozen=True)
class RunConfig:
    """All that decides the numbers of a run: equal configs give equal bits."""

    env_name: Annotated[str, tyro.conf.arg(name="env")]
    """environment"""
    agent_name: Annotated[str, tyro.conf.arg(name="agent")]
    """what becomes of the history"""
    learner_name: Annotated[str, tyro.conf.arg(name="learner")]
    """what becomes of the features"""
    env: Any  # the environment's dataclass of settings
    agent: Any  # the agent's Config
    learner: Any  # the learner's Config
    train: train.Config
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


@dataclass(frozen=True)
class Options:
    """Where a run lives and how it is kept; changes none of its numbers."""

    out: Path | None = None
    """directory to create for the run [runs/<env>-<agent>-<learner>-s<seed>-<time>]"""
    resume: Path | None = None
    """directory of a run to continue, bit for bit, with the config it was started with"""
    checkpoint_minutes: float = 3.0
    """minutes between checkpoints; one more is made at the end, on SIGTERM and on Ctrl-C"""
    keep: int = 2
    """checkpoints kept"""
    cache: Path = Path("~/.cache/taskbelief/xla")
    """directory of compiled programs, so that the next start is fast; "off" for none"""
    distributed: bool = False
    """one of several processes, on as many hosts, that train together: all are started with the
    same flags. On SLURM and Cloud TPU they find each other; elsewhere the next three say how"""
    coordinator: str = ""
    """HOST:PORT of process 0"""
    processes: int = 0
    """how many there are"""
    process: int = -1
    """which of them this is, from 0"""


@dataclass(frozen=True)
class _Command:
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    options: Annotated[Options, tyro.conf.arg(name="")]


_GROUPS = ("env", "agent", "learner", "train")


def default(env: str, agent: str, learner: str, size: str) -> RunConfig:
    """The preset `size` for this combination.

    Raises:
      ValueError: an unknown name, or a departure that fits no field.
    """
    groups = {
        "env": registry.find("envs", env).make,
        "agent": registry.find("agents", agent).Config,
        "learner": registry.find("learners", learner).Config,
        "train": train.Config,
        "": lambda **fields: fields,
    }
    settings: dict[str, dict[str, object]] = {group: {} for group in groups}
    for flag, value in presets.departures(size, env, agent, learner).items():
        group, _, field = flag.rpartition(".")
        settings[group][field] = value
    settings["train"].setdefault("shards", devices.usual_parts())
    made = {group: build(**settings[group]) for group, build in groups.items()}
    return RunConfig(env, agent, learner, preset=size, **made.pop(""), **made)


def parse(args: Sequence[str]) -> tuple[RunConfig, Options]:
    """The command line. Ends the program with status 2 where it makes no sense."""
    names, args = _names(args)
    if names.resume is None:
        start = default(names.env, names.agent, names.learner, names.preset)
        description = f"{_FIRST}\n\n{about(start)}\n\n{_HELP}"
    else:
        start = load(names.resume)
        given = {"env_name": names.env, "agent_name": names.agent, "learner_name": names.learner}
        given["preset"] = names.preset
        _refuse_difference(start, dataclasses.replace(start, **_given(given)), names.resume)
        description = f"{_FIRST}\n\n{_HELP}"
    command = tyro.cli(
        _Command,
        default=_Command(start, Options()),
        args=args,
        prog="python -m experiments.run",
        description=description,
        use_underscores=True,
        config=(tyro.conf.FlagConversionOff,),
    )
    config, options = command.config, command.options
    _check(config, options)
    if options.resume is not None:
        _refuse_difference(start, config, options.resume)
    return config, options


_FIRST = "Trains a recurrent agent to infer hidden tasks, and evaluates it on tasks it never saw."
_HELP = (
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 / 143 stopped by Ctrl-C / SIGTERM after"
    " a checkpoint (--resume continues). --core, --condition and --bottleneck-beta are short for"
    " --agent.core, --agent.condition and --agent.bottleneck_beta."
    " Work is divided among all devices, of a CPU its cores, as far as --train.shards can be."
)


def about(config: RunConfig) -> str:
    """One line: what the preset makes of the environment, against its full size."""
    full, test = type(config.env)(), types.at_test(config.env)
    changed = ", ".join(
        f"{name}={getattr(config.env, name)!r} (full: {getattr(full, name)!r})"
        for name in _fields(full)
        if getattr(config.env, name) != getattr(full, name)
    )
    size = f"but for {changed}" if changed else "in full size"
    help_ = [name for name in _fields(full) if getattr(config.env, name) != getattr(test, name)]
    without = f" Evaluations are without {' and '.join(help_)}." if help_ else ""
    return f"Preset {config.preset}: {config.env_name} {size}.{without}"


def _names(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """First stage: what decides which flags there are; (names, arguments left for tyro)."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run", allow_abbrev=False, add_help=False, exit_on_error=False
    )
    for name in ("env", "agent", "learner", "preset", "label", "core"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--resume", type=Path)
    try:
        names, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        stop.wrong_usage(str(error))
    given = vars(names).items()
    check_names({name: [value] for name, value in given if value is not None})
    if names.label and names.agent and not uses_label(names.agent):
        stop.wrong_usage(
            f"--label {names.label}: {names.agent} learns from reward alone; choose an agent that"
            f" uses labels ({', '.join(filter(uses_label, registry.names('agents')))})"
        )
    if names.resume is None:
        names.env = names.env or "numpad"
        names.agent = names.agent or "aux_head"
        names.learner = names.learner or "svg0"
        names.preset = names.preset or ("cpu" if jax.default_backend() == "cpu" else "paper")
    return names, [_long(arg) for arg in args]


def uses_label(agent: str) -> bool:
    """Whether labels mean anything to the agent of that name."""
    return registry.find("agents", agent).Config().needs.label


def check_names(given: Mapping[str, Sequence[str]]) -> None:
    """Ends the program where a name in one of the lists {flag: names} is not known."""
    allowed = {
        "env": registry.names("envs"),
        "agent": registry.names("agents"),
        "learner": registry.names("learners"),
        "preset": presets.SIZES,
        "label": ("", *registry.names("labels")),
        "core": tuple(cores.CORES),
    }
    for name, choices in allowed.items():
        for value in given.get(name, ()):
            if value not in choices:
                named = [choice for choice in choices if choice]
                stop.wrong_usage(f"unknown --{name} {value!r}: {_choose(value, named)}")


# flags with a short form, that not every agent has
_SHORT = {
    "--core": "--agent.core",
    "--condition": "--agent.condition",
    "--bottleneck-beta": "--agent.bottleneck_beta",
    "--bottleneck_beta": "--agent.bottleneck_beta",
    "--num-seeds": "--num_seeds",
    "--replay-memory": "--replay_memory",
}


def _long(arg: str) -> str:
    flag, equals, value = arg.partition("=")
    return _SHORT.get(flag, flag) + equals + value


def _choose(value: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"choose from {', '.join(choices)}{hint}"


def _check(config: RunConfig, options: Options) -> None:
    """What the types alone do not say."""
    if config.agent_name == "oracle" and config.expert:
        stop.wrong_usage(f"--expert {config.expert}: an oracle needs no expert; drop it")
    if config.label == "task_embedding" and not config.expert:
        stop.wrong_usage(
            "--label task_embedding needs --expert RUN: a run of --agent oracle"
            " --condition embedding on this environment"
        )
    if config.expert and config.label not in ("expert_action", "task_embedding"):
        stop.wrong_usage(
            f"--expert goes with --label expert_action or task_embedding, not {config.label}"
        )
    core = getattr(config.agent, "core", None)
    if core is not None and core not in cores.CORES:
        stop.wrong_usage(f"unknown --agent.core {core!r}: {_choose(core, tuple(cores.CORES))}")
    counts = ("steps", "rows", "evaluation_tasks", "num_seeds")
    sizes = {name: getattr(config, name) for name in counts}
    sizes |= {f"train.{name}": value for name, value in dataclasses.asdict(config.train).items()}
    sizes["keep"] = options.keep
    for name, value in sizes.items():
        if value < 1:
            stop.wrong_usage(f"--{name} {value}: must be at least 1")
    for name in ("seed", "evaluations", "belief_tasks"):
        if getattr(config, name) < 0:
            stop.wrong_usage(f"--{name} {getattr(config, name)}: must not be negative")
    memory.parse(config.replay_memory)
    if options.distributed and options.out is None and options.resume is None:
        stop.wrong_usage(
            "--distributed needs --out or --resume: a directory that all processes can see"
        )
    made, rows = config.train.envs, config.train.replay_rows
    if rows % made or rows < made * config.train.warmup:
        stop.wrong_usage(
            f"--train.replay_rows {rows}: must be a multiple of --train.envs {made} and hold"
            f" --train.warmup {config.train.warmup} times as many"
        )


def join(args: Sequence[str]) -> None:
    """Joins the other processes, if the flags say that there are any; alone on a CPU, takes its
    cores for devices. Before anything else: it decides what devices there are."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--distributed")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    try:
        given, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        stop.wrong_usage(str(error))
    where = given.coordinator, given.processes, given.process
    if given.distributed is None or given.distributed.lower() != "true":
        if any(part is not None for part in where):
            stop.wrong_usage("--coordinator, --processes and --process go with --distributed True")
        devices.from_cores()
        return
    if any(part is None for part in where) and any(part is not None for part in where):
        stop.wrong_usage("--coordinator, --processes and --process: all three, or none of them")
    try:
        jax.distributed.initialize(*where)
    except (ValueError, RuntimeError) as error:
        stop.failed(f"--distributed: {error}")


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
    for group in _GROUPS:
        values[group] = type(getattr(start, group))(
            **_untuple(getattr(start, group), values[group])
        )
    return RunConfig(**values)


def load(run: Path) -> RunConfig:
    """The config of the run in directory `run`; ends the program where there is none."""
    import json

    path = run / "config.json"
    if not path.is_file():
        stop.wrong_usage(f"{run} is not a run: it has no config.json")
    try:
        return from_json(json.loads(path.read_text())["config"])
    except (ValueError, TypeError, KeyError) as error:
        stop.wrong_usage(f"{path} is no config of this version: {error}")


def differences(one: RunConfig, other: RunConfig) -> dict[str, tuple[Any, Any]]:
    """{flag: (value in one, value in other)} where they differ."""
    left, right = _flat(to_json(one)), _flat(to_json(other))
    return {
        flag: (left.get(flag), right.get(flag))
        for flag in left | right
        if left.get(flag) != right.get(flag)
    }


def _refuse_difference(saved: RunConfig, asked: RunConfig, run: Path) -> None:
    different = differences(saved, asked)
    if different:
        listed = ", ".join(
            f"--{flag.removesuffix('_name')} is {was} there, {now} here"
            for flag, (was, now) in different.items()
        )
        stop.wrong_usage(f"{run} was started with another config: {listed}")


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


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _fields(settings: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(settings))
