"""A card: how good a policy is on a set of tasks, and what its beliefs are worth.

Every number that an evaluation reports is taken from a card, whoever was evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from taskbelief.evaluation import Evaluation, References, Tally, interval, normalise
from taskbelief.types import EnvSpec

NEAR_OPTIMAL = "gittins"  # of the reference policies, the one that is nearly Bayes-optimal


class Reference(NamedTuple):
    """Results of a reference policy on the tasks of the card."""

    returns: np.ndarray  # [K]
    rewards: np.ndarray  # [T, K]


class Calibration(NamedTuple):
    """Whether beliefs are as often right as they say, over all steps and tasks.

    Of categories: probabilities of single classes, in ten bins; `said` is their mean in a bin and
    `found` how often the class was the true one. Of numbers: `said` are the masses of central
    intervals, 0.1 to 0.9, and `found` is how often the true number lay within.
    """

    said: np.ndarray  # [N]
    found: np.ndarray  # [N]
    number: np.ndarray  # [N]: how many statements each entry is the mean of; 0: nothing was said

    @property
    def error(self) -> float:
        """Mean of |said - found|, weighted by `number`: 0 is perfect."""
        made = self.number > 0
        off = np.abs(self.said - self.found)[made]
        return float(np.average(off, weights=self.number[made]))


def calibrated(tally: Tally) -> Calibration:
    """Returns the means of what beliefs have stated and of what came true, [N] each."""
    said, found, count = (np.asarray(each, np.float64) for each in tally)
    made = np.maximum(count, 1)
    return Calibration(said / made, found / made, count)


class Score(NamedTuple):
    """A score (or a return, where the environment has no expert) with its interval."""

    value: float
    low: float  # 95 % bootstrap interval over tasks
    high: float


@dataclass(frozen=True, kw_only=True)
class Card:
    """One meta-episode on each of K tasks, of T steps.

    Scores are normalised: 0 is the random policy's mean return on these tasks, 1 the scripted
    expert's, which knows the task. Where there is no expert that earns more than random actions,
    scores are returns, and `normalised` says so.
    """

    policy: str
    env: str
    tasks: str  # "train", "holdout", "all" (p(w)) or "given"
    returns: np.ndarray  # [K]
    quarters: np.ndarray  # [4, K]: return in each quarter of the meta-episode
    rewards: np.ndarray | None = None  # [T, K]
    sampled: np.ndarray | None = None  # [K]: returns with sampled actions; `returns` has modes
    references: References | None = None  # what scores are normalised by
    beside: Mapping[str, Reference] = field(default_factory=dict)  # the references, on these tasks
    episodes: int = 1  # of equal length in a meta-episode
    label_nll: np.ndarray | None = None  # [T, K] nats: of the label under the policy's belief
    kl: np.ndarray | None = None  # [T, K'] nats: KL(exact posterior || belief), K' <= K
    calibration: Calibration | None = None

    # ---- scores

    @property
    def normalised(self) -> bool:
        """Whether scores are normalised; otherwise they are returns."""
        return self.references is not None

    @property
    def mean_return(self) -> float:
        """Mean over the tasks."""
        return float(np.mean(np.asarray(self.returns, np.float64)))

    @property
    def score(self) -> float:
        """0 is the random policy, 1 the expert; the mean return where not `normalised`."""
        return self._score(self.mean_return)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of `score`, over tasks."""
        low, high = interval(np.asarray(self.returns, np.float64))
        return self._score(low), self._score(high)

    @property
    def standing(self) -> dict[str, float]:
        """Scores of this policy and of the references on these tasks, by name, ascending."""
        found = {name: self._score(value) for name, value in self.reference_returns.items()}
        found[self.policy] = self.score
        return dict(sorted(found.items(), key=lambda entry: entry[1]))

    @property
    def reference_returns(self) -> dict[str, float]:
        """Mean returns of the reference policies, by name."""
        found = {
            name: float(np.mean(np.asarray(reference.returns, np.float64)))
            for name, reference in self.beside.items()
        }
        if self.references is not None:
            ends = self.references._asdict()
            found |= {name: value for name, value in ends.items() if value is not None}
        return found

    @property
    def part(self) -> str:
        """The unit of `part_returns` and `part_scores`: "episode" or "quarter"."""
        return "episode" if self.episodes > 1 and self.rewards is not None else "quarter"

    @property
    def part_returns(self) -> np.ndarray:
        """Return in each episode of a task, or in each quarter if it has only one, [P, K]."""
        if self.part == "quarter" or self.rewards is None:
            return np.asarray(self.quarters)
        return _parts(self.rewards, self.episodes)

    def parts_of(self, reference: str) -> np.ndarray:
        """Returns `part_returns` of a reference policy, by its name in `beside`, [P, K]."""
        return _parts(self.beside[reference].rewards, len(self.part_returns))

    @property
    def part_scores(self) -> list[Score]:
        """Score of each part, normalised by the returns of random policy and expert in that part.
        It is the return if `normalised` is false, or if the expert earns no more there."""
        parts = np.asarray(self.part_returns, np.float64)
        ends: list[References | None] = [None] * len(parts)
        if self.normalised and {"random", "expert"} <= set(self.beside):
            random, expert = (self.parts_of(name).mean(axis=1) for name in ("random", "expert"))
            ends = [
                References(float(low), float(high), None) if high > low else None
                for low, high in zip(random, expert, strict=True)
            ]
        return [_score(part, known) for part, known in zip(parts, ends, strict=True)]

    @property
    def regret(self) -> np.ndarray | None:
        """Sum of the expert's rewards up to each step minus that of the policy, mean over tasks,
        [T]; None: there is no expert, or rewards were not kept."""
        return None if self.rewards is None else self._regret(self.rewards)

    def regret_of(self, reference: str) -> np.ndarray | None:
        """Returns the regret of a reference policy, by its name in `beside`, [T]."""
        return self._regret(self.beside[reference].rewards)

    def _regret(self, rewards: np.ndarray) -> np.ndarray | None:
        if "expert" not in self.beside:
            return None
        lead = np.asarray(self.beside["expert"].rewards, np.float64) - rewards
        return np.cumsum(np.mean(lead, axis=1))

    def _score(self, value: float) -> float:
        return value if self.references is None else normalise(value, self.references)

    # ---- as metrics and as text

    def metrics(self) -> dict[str, float]:
        """Returns numbers named as in a run's metrics.csv, without scores if not `normalised`."""
        named = {"return": self.mean_return}
        if self.sampled is not None:
            named["return_sampled"] = float(np.mean(np.asarray(self.sampled, np.float64)))
        if self.references is not None:
            named["score"] = self.score
            named["score_low"], named["score_high"] = self.interval
            if self.sampled is not None:
                named["score_sampled"] = normalise(named["return_sampled"], self.references)
            if self.references.explorer is not None:
                reach = normalise(self.references.explorer, self.references)
                named["score_over_explorer"] = named["score"] / reach
        for number, quarter in enumerate(np.mean(np.asarray(self.quarters), axis=1), start=1):
            named[f"return_quarter_{number}"] = float(quarter)
        if self.label_nll is not None:
            nll = np.mean(np.asarray(self.label_nll), axis=1)
            named["label_nll"] = float(np.mean(nll))
            for number, quarter in enumerate(np.array_split(nll, 4), start=1):
                named[f"label_nll_quarter_{number}"] = (
                    float(np.mean(quarter)) if quarter.size else 0.0
                )
        if self.kl is not None:
            kl = np.mean(np.asarray(self.kl), axis=1)
            named["belief_kl"] = float(np.mean(kl))
            for number, quarter in enumerate(np.array_split(kl, 4), start=1):
                named[f"belief_kl_quarter_{number}"] = float(np.mean(quarter))
        if self.calibration is not None:
            named["calibration_error"] = self.calibration.error
        return named

    def __str__(self) -> str:
        lines = [self.title, "", *self._headline(), "", *self._table()]
        lines += ["", *self._by_part()]
        if self.regret is not None:
            quarters = [part for part in np.array_split(self.regret, 4) if len(part)]
            said = ", ".join(f"{part[-1]:.3f}" for part in quarters)
            lines += [
                "",
                f"regret, what the expert earned more by the end of each quarter: {said}",
            ]
        return "\n".join([*lines, *self._belief()])

    @property
    def title(self) -> str:
        words = {"holdout": "hold-out tasks", "train": "training tasks", "all": "tasks of p(w)"}
        return f"{self.policy} on {self.env}, {len(self.returns)} {words.get(self.tasks, 'tasks')}"

    def _headline(self) -> list[str]:
        low, high = interval(np.asarray(self.returns, np.float64))
        earned = f"return  {self.mean_return:8.3f}  [{low:.3f}, {high:.3f}]"
        of_tasks = "95 % bootstrap interval over tasks"
        if not self.normalised:
            none = "no scripted expert earns more than random actions here: the return is the score"
            return [f"{earned}  ({of_tasks})", none]
        bounds = "[{:.3f}, {:.3f}]".format(*self.interval)
        said = f"score   {self.score:8.3f}  {bounds}  (0: random actions, 1: the expert)"
        return [said, f"{earned}  ({of_tasks})"]

    def _table(self) -> list[str]:
        returns = self.reference_returns | {self.policy: self.mean_return}
        width = max(len(about(name)) for name in returns)
        lines = [f"  {'':{width}}  {'return':>9}" + ("    score" if self.normalised else "")]
        for name in self.standing if self.normalised else sorted(returns, key=returns.__getitem__):
            score = f"  {self.standing[name]:7.3f}" if self.normalised else ""
            mark = "> " if name == self.policy else "  "
            lines.append(f"{mark}{about(name):{width}}  {returns[name]:9.3f}{score}")
        return lines

    def _by_part(self) -> list[str]:
        scores, returns = self.part_scores, np.mean(np.asarray(self.part_returns, float), axis=1)
        rows = {
            self.part: [str(number) for number in range(1, len(scores) + 1)],
            "return": [f"{value:.3f}" for value in returns],
        }
        if self.normalised and self.beside:
            rows["score"] = [f"{score.value:.3f}" for score in scores]
            rows["low"] = [f"{score.low:.3f}" for score in scores]
            rows["high"] = [f"{score.high:.3f}" for score in scores]
        return _rows(rows)

    def _belief(self) -> list[str]:
        rows: dict[str, list[str]] = {}
        for name, values in (("NLL of the label", self.label_nll), ("KL from exact", self.kl)):
            if values is not None:
                by_step = np.mean(np.asarray(values, np.float64), axis=1)
                quarters = [part for part in np.array_split(by_step, 4) if len(part)]
                rows[name] = [f"{np.mean(part):.3f}" for part in quarters]
        lines = []
        if rows:
            numbers = [str(n) for n in range(1, len(next(iter(rows.values()))) + 1)]
            lines += ["", *_rows({"belief, nats; quarter": numbers, **rows})]
        if self.calibration is not None:
            error = self.calibration.error
            lines.append(f"calibration error {error:.3f}  (mean of |probability said - found|)")
        return lines


def of(evaluation: Evaluation, **more) -> Card:
    """Returns the card of an evaluation; `more`: the other fields."""
    played = {name: leaf for name, leaf in evaluation._asdict().items() if leaf is not None}
    return Card(**{name: np.asarray(leaf) for name, leaf in played.items()}, **more)


def equal_episodes(spec: EnvSpec) -> int:
    """Returns the number of episodes of a meta-episode if all have the same length, otherwise 1."""
    return 1 if spec.terminates else spec.episodes_per_task


def about(policy: str) -> str:
    """Returns the name of a policy, with an explanation if it is a reference."""
    stands_for = {
        "random": "random actions",
        "expert": "expert (knows the task)",
        "explorer": "explorer (infers the task exactly)",
        NEAR_OPTIMAL: f"{NEAR_OPTIMAL} (nearly Bayes-optimal)",
    }
    return stands_for.get(policy, policy)


def _parts(values: np.ndarray, num: int) -> np.ndarray:
    """Returns sums of `values` [T, K] over `num` parts of time of nearly equal length, [num, K]."""
    return np.stack([part.sum(axis=0) for part in np.array_split(np.asarray(values), num)])


def _score(returns: np.ndarray, references: References | None) -> Score:
    found = float(np.mean(returns)), *interval(returns)
    if references is None:
        return Score(*found)
    return Score(*(normalise(value, references) for value in found))


def _rows(rows: Mapping[str, list[str]]) -> list[str]:
    """Returns lines with the cells below each other, at most eight in a line."""
    name_width = max(map(len, rows))
    width = max(len(cell) for cells in rows.values() for cell in cells)
    num = len(next(iter(rows.values())))
    lines = []
    for start in range(0, num, 8):
        lines += [
            f"{name:{name_width}}  " + "  ".join(f"{c:>{width}}" for c in cells[start : start + 8])
            for name, cells in rows.items()
        ]
    return lines
