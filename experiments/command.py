"""The command line of a run, derived from the dataclasses in two stages: the names of environment,
agent, learner and preset, which determine the other flags; then every field as a flag."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments import devices, footprint, stop
from taskbelief import registry, types
from taskbelief.networks import cores
from taskbelief.runs import Refused, config, presets
from taskbelief.runs.config import RunConfig


@dataclass(frozen=True)
class Options:
    """Files and processes of a run, without influence on its results."""

    out: Path | None = None
    """directory of the new run [runs/<env>-<agent>-<learner>-s<seed>-<time>]"""
    resume: Path | None = None
    """directory of a run to continue, bit for bit, with its own config"""
    checkpoint_minutes: float = 3.0
    """minutes between checkpoints; there is one more at the end, on SIGTERM and on Ctrl-C"""
    keep: int = 2
    """number of checkpoints to keep"""
    cache: Path = Path("~/.cache/taskbelief/xla")
    """directory of compiled programs, for a faster next start; "off": none"""
    distributed: bool = False
    """whether this is one of several processes that train together, all with the same flags. On
    SLURM and Cloud TPU they find each other; elsewhere the next three flags are necessary"""
    coordinator: str = ""
    """HOST:PORT of process 0"""
    processes: int = 0
    """number of processes"""
    process: int = -1
    """number of this process, from 0"""


@dataclass(frozen=True)
class _Flags(RunConfig):
    """The three names, as flags."""

    env_name: Annotated[str, tyro.conf.arg(name="env")]
    """environment: a name, or package.module:Class of your own"""
    agent_name: Annotated[str, tyro.conf.arg(name="agent")]
    """agent: the map from the history to features"""
    learner_name: Annotated[str, tyro.conf.arg(name="learner")]
    """learner: policy, value functions and losses"""


@dataclass(frozen=True)
class _Command:
    config: Annotated[_Flags, tyro.conf.arg(name="")]
    options: Annotated[Options, tyro.conf.arg(name="")]


def parse(args: Sequence[str]) -> tuple[RunConfig, Options]:
    """Parses the command line. Ends the program with status 2 for invalid arguments."""
    names, args = _names(args)
    if names.resume is None:
        start = config.default(names.env, names.agent, names.learner, names.preset)
        description = f"{_FIRST}\n\n{_lists()}\n\n{about(start)}\n\n{_HELP}"
    else:
        start = config_of(names.resume)
        given = {"env_name": names.env, "agent_name": names.agent, "learner_name": names.learner}
        given["preset"] = names.preset
        _refuse_difference(start, dataclasses.replace(start, **_given(given)), names.resume)
        description = f"{_FIRST}\n\n{_lists()}\n\n{_HELP}"
    _check_flags(args, start)
    command = tyro.cli(
        _Command,
        default=_Command(_Flags(**_shallow(start)), Options()),
        args=args,
        prog="python -m experiments.run",
        description=description,
        use_underscores=True,
        config=(tyro.conf.FlagConversionOff,),
    )
    chosen, options = RunConfig(**_shallow(command.config)), command.options
    _check(chosen, options)
    if options.resume is not None:
        _refuse_difference(start, chosen, options.resume)
    return chosen, options


_FIRST = "Trains a recurrent agent to infer hidden tasks, and evaluates it on tasks it never saw."
_HELP = (
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 / 143 stopped by Ctrl-C / SIGTERM after"
    " a checkpoint (--resume continues). --core, --condition and --bottleneck-beta are short for"
    " --agent.core, --agent.condition and --agent.bottleneck_beta."
    " Work is divided among all devices, of a CPU its cores, as far as --train.shards can be."
)


def _lists() -> str:
    """Lists environments, agents, learners, labels and presets, with a line each."""
    parts = {
        "Environments (--env)": registry.lines("envs"),
        "Agents (--agent)": registry.lines("agents"),
        "Learners (--learner)": registry.lines("learners"),
        "Labels (--label)": registry.lines("labels"),
        "Presets (--preset)": presets.SIZES,
    }
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"  {name:17}  {line}" for name, line in names.items())])
        for title, names in parts.items()
    )


def about(chosen: RunConfig) -> str:
    """Lists the preset's departures from the defaults, the flags' departures from the preset, and
    the help in training that evaluations do not give; a paragraph each."""
    names = chosen.env_name, chosen.agent_name, chosen.learner_name
    preset = config.default(*names, chosen.preset)
    departures = config.differences(config.without_preset(chosen), preset)
    departures.pop("train.shards", None)  # it follows from the other sizes
    if not chosen.agent.needs.label:
        departures.pop("label", None)
    listed = _listed(departures, "default") or "the defaults"
    paragraphs = [f"Preset {chosen.preset} of {', '.join(names)}: {listed}."]
    if flags := _listed(config.differences(preset, chosen), "preset"):
        paragraphs.append(f"By flags: {flags}.")
    test = types.at_test(chosen.env)
    helped = [name for name in _fields(test) if getattr(chosen.env, name) != getattr(test, name)]
    if helped:
        paragraphs.append(f"Evaluations are without env.{' and env.'.join(helped)}.")
    wrap = partial(textwrap.fill, width=100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(map(wrap, paragraphs)).replace(_GLUE, " ")


_GLUE = "\N{NO-BREAK SPACE}"  # keeps a flag and its values on one line


def _listed(differences: Mapping[str, tuple[Any, Any]], before: str) -> str:
    """Lists flags with their values, and in brackets those of `before`; flags without a group
    first."""
    ordered = sorted(differences.items(), key=lambda item: "." in item[0])
    parts = (f"--{flag} {new} ({before}: {old})" for flag, (old, new) in ordered)
    return ", ".join(part.replace(" ", _GLUE) for part in parts)


def _check_flags(args: Sequence[str], start: RunConfig) -> None:
    """Ends the program for an unknown flag, with the most similar known one."""
    groups = {group: _fields(getattr(start, group)) for group in config.GROUPS}
    single = (name for name in (*_fields(start), *_fields(Options())) if name not in groups)
    known = [name.removesuffix("_name") for name in single]
    known += [f"{group}.{field}" for group, fields in groups.items() for field in fields]
    for arg in args:
        flag = arg.removeprefix("--").partition("=")[0]
        if arg.startswith("--") and flag.replace("-", "_") not in {*known, "help"}:
            near = config.nearest(flag, known)
            hint = f"did you mean --{near}?" if near else "--help lists all flags"
            stop.wrong_usage(f"unknown flag --{flag}: {hint}")


def _names(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parses the names, which determine the other flags; returns (names, arguments for tyro)."""
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
    if names.label and names.agent and not config.uses_label(names.agent):
        stop.wrong_usage(
            f"--label {names.label}: {names.agent} learns from reward alone; choose an agent that"
            f" uses labels ({', '.join(filter(config.uses_label, registry.names('agents')))})"
        )
    if names.resume is None:
        names.env = names.env or "numpad"
        names.agent = names.agent or "aux_head"
        names.learner = names.learner or config.usual_learner(names.agent)
        names.preset = names.preset or ("cpu" if jax.default_backend() == "cpu" else "paper")
    return names, [_long(arg) for arg in args]


def check_names(given: Mapping[str, Sequence[str]]) -> None:
    """Ends the program for an unknown name in one of the lists {flag: names}."""
    allowed = {
        "env": registry.environments(),
        "agent": registry.names("agents"),
        "learner": ("", *registry.names("learners")),
        "preset": tuple(presets.SIZES),
        "label": ("", *registry.names("labels")),
        "core": tuple(cores.CORES),
    }
    for env in given.get("env", ()):
        if ":" in env:
            try:
                registry.factory(env)
            except ValueError as error:
                stop.wrong_usage(f"--env: {error}")
            allowed["env"] += (env,)
    for name, choices in allowed.items():
        for value in given.get(name, ()):
            if value not in choices:
                named = [choice for choice in choices if choice]
                stop.wrong_usage(f"unknown --{name} {value!r}: {_choices(value, named)}")


# short forms of flags, which not every agent has
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


def _choices(value: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"choose from {', '.join(choices)}{hint}"


def _check(chosen: RunConfig, options: Options) -> None:
    """Checks conditions that the types do not express."""
    try:
        config.check(chosen)
    except Refused as error:
        stop.wrong_usage(str(error))
    if options.keep < 1:
        stop.wrong_usage(f"--keep {options.keep}: must be at least 1")
    core = getattr(chosen.agent, "core", None)
    if core is not None and core not in cores.CORES:
        stop.wrong_usage(f"unknown --agent.core {core!r}: {_choices(core, tuple(cores.CORES))}")
    footprint.parse(chosen.replay_memory)
    if options.distributed and options.out is None and options.resume is None:
        stop.wrong_usage(
            "--distributed needs --out or --resume: a directory that all processes can see"
        )


def config_of(run: Path) -> RunConfig:
    """Returns the config of the run in directory `run`; ends the program where there is none."""
    with stop.sentences():
        return config.load(run)


def join(args: Sequence[str]) -> None:
    """Joins the other processes, if there are any; a single process on a CPU uses its cores as
    devices. It has to be called first, because it determines the devices of JAX."""
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


def _refuse_difference(saved: RunConfig, asked: RunConfig, run: Path) -> None:
    different = config.differences(saved, asked)
    if different:
        listed = ", ".join(
            f"--{flag.removesuffix('_name')} is {was} there, {now} here"
            for flag, (was, now) in different.items()
        )
        stop.wrong_usage(f"{run} was started with another config: {listed}")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _shallow(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in _fields(settings)}


def _fields(settings: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(settings))
