"""Figures of learning curves, from metrics.csv of runs.

python -m experiments.figures RUN
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import scipy.special
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import ArrayLike

from experiments import loggers, stop

_HOLDOUT, _TRAIN = "#1f6feb", "#d9730d"


def curves(run: Path) -> None:
    """Draws curves.png of a run."""
    data = _read(run)
    figure, ((score, quarters, belief), (critic, policy, speed)) = plt.subplots(
        2, 3, figsize=(14, 7.5)
    )
    # a fixed layout, because a constrained one draws everything twice
    figure.subplots_adjust(0.065, 0.07, 0.99, 0.9, wspace=0.17, hspace=0.3)
    figure.suptitle(run.resolve().name)

    if "eval/train/score" in data:
        for split, colour in (("train", _TRAIN), ("holdout", _HOLDOUT)):
            if f"eval/{split}/score" not in data:
                continue
            _line(score, data, f"eval/{split}/score", _words(split), colour)
            x, _ = _known(data, f"eval/{split}/score")
            low, high = (_known(data, f"eval/{split}/score_{end}")[1] for end in ("low", "high"))
            score.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        _explorer(score, data)
        score.axhline(1, color="0.4", linewidth=1, linestyle="--")
        score.text(0.01, 1, "expert", transform=score.get_yaxis_transform(), va="bottom")
        score.axhline(0, color="0.4", linewidth=1, linestyle="--")
        score.set_ylim(min(-0.05, *score.get_ylim()), 1.1)
        score.set(title="normalised score (random 0, expert 1)")
    else:
        for split, colour in (("train", _TRAIN), ("holdout", _HOLDOUT)):
            _line(score, data, f"eval/{split}/return", _words(split), colour)
        score.set(title="return of a meta-episode")

    for number, shade in enumerate((0.3, 0.5, 0.75, 1.0), start=1):
        name = f"eval/holdout/return_quarter_{number}"
        _line(quarters, data, name, f"quarter {number}", _HOLDOUT, alpha=shade)
    quarters.set(title="hold-out return in each quarter of the meta-episode")

    if "eval/train/label_nll" in data:
        for number, shade in enumerate((0.3, 0.5, 0.75, 1.0), start=1):
            name = f"eval/holdout/label_nll_quarter_{number}"
            _line(belief, data, name, f"hold-out, quarter {number}", _HOLDOUT, alpha=shade)
        _line(belief, data, "eval/train/label_nll", _words("train"), _TRAIN)
        belief.set(title="label negative log-likelihood (nats)")
        kl = "hold-out, KL from the exact posterior"
        _line(belief, data, "eval/holdout/belief_kl", kl, "#2da44e")
    else:
        belief.set_axis_off()

    _line(critic, data, "train/critic_loss", "critic loss", "0.3")
    critic.set(title="critic loss", yscale="log")
    _line(policy, data, "train/entropy", "entropy", "0.3")
    policy.set(title="policy entropy (nats)")
    _line(speed, data, "time/env_steps_per_second", "steps/s", "0.3")
    speed.set(title="agent steps per second, learning included")
    speed.set_ylim(bottom=0)

    for axes in figure.axes:
        axes.set_xlabel("agent steps")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(axes.get_lines()) > 1 and axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    new = run / "curves.new.png"
    figure.savefig(new, dpi=90)
    plt.close(figure)
    os.replace(new, run / "curves.png")


def interval(values: ArrayLike) -> np.ndarray:
    """Returns half the width of Student's 95 % interval of the mean of `values` [N, ...], [...];
    nan for N = 1."""
    num = len(values := np.asarray(values))
    if num < 2:
        return np.full(values.shape[1:], np.nan)
    spread = values.std(axis=0, ddof=1) / np.sqrt(num)
    return spread * scipy.special.stdtrit(num - 1, 0.975)


def aligned(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lines (x [T_i], y [T_i]) at common points, as (x [T], y [lines, T]): at those of
    the line with fewest, as far as all lines reach, with linear interpolation."""
    fewest = min((x for x, _ in lines), key=len)
    x = fewest[fewest <= min(x[-1] for x, _ in lines)]
    return x, np.stack([np.interp(x, *line) for line in lines])


def compare(groups: Mapping[tuple[str, str], Sequence[tuple[Path, int]]], path: Path) -> None:
    """Draws hold-out scores of groups of runs (directory, seed) that differ by their seed: mean,
    and Student's 95 % interval over seeds. A group is called (environment, name): an environment
    has a panel, and a name has the same colour in all of them."""
    envs = list(dict.fromkeys(env for env, _ in groups))
    names = dict.fromkeys(name for _, name in groups)
    colours = {name: f"C{number}" for number, name in enumerate(names)}
    columns = min(len(envs), 3)
    lines = -(-len(envs) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(4.6 * columns, 3.6 * lines), layout="constrained", squeeze=False
    )
    for axes in panels.flat[len(envs) :]:
        axes.set_visible(False)
    for env, axes in zip(envs, panels.flat, strict=False):
        own = {name: runs for (place, name), runs in groups.items() if place == env}
        for name, runs in own.items():
            data = [_read(run, seed) for run, seed in runs]
            # the first that all have: scores before returns, hold-out before training tasks
            measures = [f"eval/{s}/{m}" for m in ("score", "return") for s in ("holdout", "train")]
            measure = next(name for name in measures if all(name in one for one in data))
            x, y = aligned([_known(one, measure) for one in data])
            mean, colour = y.mean(axis=0), colours[name]
            axes.plot(x, mean, color=colour, label=name, linewidth=1.6)
            if len(y) > 1:
                reach = interval(y)
                axes.fill_between(x, mean - reach, mean + reach, color=colour, alpha=0.15, lw=0)
        _explorer(axes, _read(*next(iter(own.values()))[0]))
        _, split, what = measure.split("/")
        axes.set(title=env, xlabel="agent steps", ylabel=f"{what}, {_words(split)}")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def varied(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws scores on both task sets, and the gap between them, by the varied flag ("name=value"):
    each seed, and the mean over seeds. One panel for each agent on each environment."""
    agents = list(dict.fromkeys((row["env"], row["agent"]) for row in rows))
    figure, panels = plt.subplots(
        1, len(agents), figsize=(5.5 * len(agents), 4.2), layout="constrained", squeeze=False
    )
    values = list(dict.fromkeys(str(row["varied"]) for row in rows))  # in the given order
    for (env, agent), axes in zip(agents, panels[0], strict=True):
        own = [row for row in rows if (row["env"], row["agent"]) == (env, agent)]
        for name, label, colour in (
            ("eval/train/score", _words("train"), _TRAIN),
            ("eval/holdout/score", _words("holdout"), _HOLDOUT),
            ("eval/gap", "gap", "0.3"),
        ):
            found = [
                [float(r[name]) for r in own if str(r["varied"]) == v and name in r] for v in values
            ]
            if not all(found):  # no expert, no scores
                continue
            for x, seeds in enumerate(found):
                axes.plot([x] * len(seeds), seeds, "o", color=colour, alpha=0.35, markersize=4)
            axes.plot([np.mean(s) for s in found], color=colour, label=label, linewidth=1.6)
        flag, _, _ = values[0].partition("=")
        axes.set_xticks(range(len(values)), [value.removeprefix(f"{flag}=") for value in values])
        axes.set(title=f"{env}, {agent}", xlabel=flag, ylabel="score")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _read(run: Path, seed: int | None = None) -> dict[str, np.ndarray]:
    """Returns columns of a run's metrics, of one seed; None: means over its seeds, with Student's
    95 % interval over several seeds in place of that over tasks."""
    rows = loggers.read(run / "metrics.csv", seed)
    names = list(rows[0]) if rows else []
    by_seed: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_seed.setdefault(row.get("seed", ""), []).append(row)
    length = min(map(len, by_seed.values()), default=0)
    data = {
        name: np.array(
            [[float(row[name] or "nan") for row in r[:length]] for r in by_seed.values()]
        )
        for name in names
    }
    means = {name: column.mean(axis=0) for name, column in data.items()}
    for split in ("train", "holdout") if len(by_seed) > 1 else ():
        score = data.get(f"eval/{split}/score")
        if score is not None:
            reach = interval(score)
            means[f"eval/{split}/score_low"] = score.mean(axis=0) - reach
            means[f"eval/{split}/score_high"] = score.mean(axis=0) + reach
    return means


def _known(data: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and values of the rows that have `name`."""
    known = np.isfinite(data[name])
    return data["env_steps"][known], data[name][known]


def _line(axes: Axes, data: dict[str, np.ndarray], name: str, label: str, colour: str, **style):
    if name not in data:
        return None
    x, y = _known(data, name)
    marker = "o" if len(x) < 3 else None
    axes.plot(x, y, label=label, color=colour, marker=marker, linewidth=1.6, **style)
    return x, y


def _explorer(axes: Axes, data: dict[str, np.ndarray]) -> None:
    """Draws a line at the explorer's score: eval/holdout/score divided by score_over_explorer."""
    if "eval/holdout/score_over_explorer" not in data:
        return
    _, share = _known(data, "eval/holdout/score_over_explorer")
    _, score = _known(data, "eval/holdout/score")
    if len(share) and share[-1] != 0:
        reach = score[-1] / share[-1]
        axes.axhline(reach, color="0.4", linewidth=1, linestyle=":")
        axes.text(0.01, reach, "explorer", transform=axes.get_yaxis_transform(), va="bottom")


def _words(split: str) -> str:
    return {"train": "training tasks", "holdout": "hold-out tasks"}[split]


def main() -> None:
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "metrics.csv").is_file():
        stop.wrong_usage("usage: python -m experiments.figures RUN (a directory with metrics.csv)")
    curves(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
