"""Scores a policy: prints a card and draws it.

    python -m experiments.score explorer --env bandit arms=5
    python -m experiments.score RUN                       a run, from its newest good checkpoint
    python -m experiments.score AGENT --tasks all         an agent that was saved from Python

There is a card for each policy, and for each seed of a run. `taskbelief.score` scores policies
from other code.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

import taskbelief
from experiments import command, devices, stop
from taskbelief import api, explorer, types
from taskbelief.card import Card
from taskbelief.evaluation import interval
from taskbelief.runs import config

_OWN = "#1f6feb"
_COLOURS = {"random": "0.7", "expert": "0.25", "explorer": "#2da44e", "gittins": "#d9730d"}


def main(args: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.score",
        description="How good a policy is, on a card: printed, and drawn.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "policies", nargs="+", metavar="POLICY",
        help="directory of a run or of a saved agent; or, with --env, random, expert, explorer, ..."
        "; then settings of --env, as field=value",
    )  # fmt: skip
    parser.add_argument("--env", help="environment of a named policy")
    parser.add_argument(
        "--tasks", default="holdout", help="holdout (default), train, or all: drawn from p(w)"
    )
    parser.add_argument("--num", type=int, help="at most so many tasks (default: 1000)")
    parser.add_argument(
        "--out", type=Path, help="directory for pictures (default: of a run its own, else the"
        " working directory)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=command.Options.cache, help="as in experiments.run"
    )
    arguments = parser.parse_intermixed_args(args)
    devices.use_cache(arguments.cache)
    settings = dict(each.split("=", 1) for each in arguments.policies if "=" in each)
    names = [each for each in arguments.policies if "=" not in each]
    if not names:
        stop.wrong_usage("which policy? a name with --env, a run or a saved agent")
    if settings and not arguments.env:
        stop.wrong_usage("settings need --env")
    for name in names:
        with stop.sentences():
            for found, folder in cards(name, arguments, settings):
                print(found, flush=True)
                path = (arguments.out or folder) / f"{_file(found)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                draw(found, path)
                print(f"\n{path}\n", flush=True)


def cards(
    name: str, arguments: argparse.Namespace, settings: dict[str, str]
) -> Iterator[tuple[Card, Path]]:
    """Yields the card of the policy `name`, or of each seed of a run, with its picture's folder.

    Raises:
      ValueError: there is no such policy, or it does not fit the other arguments.
    """
    asked: dict[str, Any] = {"tasks": arguments.tasks, "num": arguments.num}
    folder = Path(name)
    if folder.is_dir():
        if arguments.env:
            raise ValueError(f"--env {arguments.env}: {folder} knows its own, so leave it out")
        for seed in _seeds(folder):
            yield taskbelief.score(api.load(folder, seed), **asked), folder
        return
    if not arguments.env:
        raise ValueError(f"{name}: there is no such directory, and names of policies need --env")
    env = taskbelief.make(arguments.env, **{field: _value(v) for field, v in settings.items()})
    known = explorer.names(types.at_test(env))
    if name not in known:
        raise ValueError(f"{name}: no such directory, and {arguments.env} has {', '.join(known)}")
    yield taskbelief.score(name, env, **asked), Path()


def _seeds(folder: Path) -> range:
    chosen = config.load(folder)
    return range(chosen.seed, chosen.seed + chosen.num_seeds)


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _file(found: Card) -> str:
    words = f"score {found.env} {found.policy} {found.tasks}".replace(",", "")
    return "-".join(words.replace(":", ".").split())


# ---- the picture ------------------------------------------------------------------


def draw(found: Card, path: Path) -> None:
    """Draws score, return by part of the meta-episode, regret and belief, with the references."""
    panels = [_standing, _by_part]
    if found.regret is not None:
        panels.append(_regret)
    if found.label_nll is not None or found.kl is not None:
        panels.append(_belief)
    if found.calibration is not None:
        panels.append(_calibration)
    columns = min(3, len(panels))
    num_rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        num_rows, columns, figsize=(4.6 * columns, 3.6 * num_rows), layout="constrained"
    )
    figure.suptitle(found.title, fontsize=11)
    for own in grid.flat[len(panels) :]:
        own.set_axis_off()
    for panel, own in zip(panels, grid.flat, strict=False):
        panel(own, found)
        own.grid(alpha=0.3)
        own.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _colour(name: str, found: Card) -> str:
    return _OWN if name == found.policy else _COLOURS.get(name, "0.5")


def _names(found: Card) -> list[str]:
    """Returns the references, and the policy last, so that it is drawn on top."""
    return [*(name for name in found.beside if name != found.policy), found.policy]


def _unit(found: Card) -> str:
    return "score (random 0, expert 1)" if found.normalised else "mean return"


def _standing(axes: Axes, found: Card) -> None:
    for row, (name, value) in enumerate(found.standing.items()):
        axes.barh(row, value, color=_colour(name, found), height=0.6)
    row = list(found.standing).index(found.policy)
    low, high = found.interval
    axes.errorbar(
        found.score, row, xerr=[[found.score - low], [high - found.score]], color="black",
        capsize=3, linewidth=1,
    )  # fmt: skip
    axes.set_yticks(range(len(found.standing)), list(found.standing), fontsize=9)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set(title="where it stands", xlabel=f"{_unit(found)}, 95 % interval over tasks")


def _by_part(axes: Axes, found: Card) -> None:
    for name in _names(found):
        if name == found.policy:
            parts = np.asarray(found.part_returns, np.float64)
        else:
            parts = found.parts_of(name)
        places = np.arange(1, len(parts) + 1)
        means = parts.mean(axis=1)
        axes.plot(places, means, marker=".", color=_colour(name, found), label=name)
        if name == found.policy:
            low, high = np.array([interval(part) for part in parts]).T
            axes.fill_between(places, low, high, color=_OWN, alpha=0.2, linewidth=0)
    axes.set(title=f"by {found.part}", xlabel=found.part, ylabel=f"mean return of the {found.part}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)


def _regret(axes: Axes, found: Card) -> None:
    for name in _names(found):
        if name in ("expert", "random") and name != found.policy:
            continue
        regret = found.regret if name == found.policy else found.regret_of(name)
        assert regret is not None
        steps = np.arange(1, len(regret) + 1)
        axes.plot(steps, regret, color=_colour(name, found), label=name)
    axes.set(title="regret", xlabel="step", ylabel="expert's return so far minus its own")
    axes.legend(frameon=False, fontsize=8)


def _belief(axes: Axes, found: Card) -> None:
    lines = (
        ("negative log-likelihood of the label", found.label_nll, _OWN),
        ("KL from the exact posterior", found.kl, "#2da44e"),
    )
    for name, values, colour in lines:
        if values is not None:
            by_step = np.mean(np.asarray(values, np.float64), axis=1)
            axes.plot(np.arange(len(by_step)), by_step, color=colour, label=name)
    axes.set(title="belief", xlabel="steps seen", ylabel="nats, mean over tasks")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(frameon=False, fontsize=8)


def _calibration(axes: Axes, found: Card) -> None:
    assert found.calibration is not None
    said, share, count = found.calibration
    made = count > 0
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
    axes.plot(said[made], share[made], color=_OWN, marker="o", markersize=4)
    axes.set(
        title=f"calibration (mean error {found.calibration.error:.3f})",
        xlabel="probability that it said", ylabel="how often it was so",
        xlim=(0, 1), ylim=(0, 1),
    )  # fmt: skip


if __name__ == "__main__":
    main()
