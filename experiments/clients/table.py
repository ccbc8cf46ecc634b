"""Writes the table in README.md of this folder, from experiments/results/clients/runs.csv.

python -m experiments.clients.table
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path

from experiments.clients import common

BEGIN, END = "<!-- table -->", "<!-- end of the table -->"


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: for each client and environment the score of each seed, steps and CPU minutes."""
    found: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        found[row["client"], row["env"]].append(row)
    clients = list(dict.fromkeys(row["client"] for row in rows))
    lines = ["| | " + " | ".join(common.ENVS) + " |", "|---" * (1 + len(common.ENVS)) + "|"]
    for client in clients:
        cells = [_cell(found.get((client, env), [])) for env in common.ENVS]
        lines.append(f"| {client} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "not run"
    # adding 0.0 turns -0.0 into 0.0
    scores = " ".join(f"{round(float(row['score']), 2) + 0.0:.2f}" for row in rows)
    minutes = statistics.mean(float(row["minutes"]) for row in rows)
    (steps,) = {int(row["steps"]) for row in rows}
    return f"{scores} ({steps / 1000:.0f} k, {minutes:.1f} min)"


def main() -> None:
    with (common.RESULTS / "runs.csv").open(newline="") as file:
        shown = table(list(csv.DictReader(file)))
    path = Path(__file__).with_name("README.md")
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}")
    print(shown)


if __name__ == "__main__":
    main()
