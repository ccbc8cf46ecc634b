"""Puts known faults into a copy of the code, one at a time, and requires that tests fail.

python -m tests.mutants                      all faults of tests/mutants/*.toml
python -m tests.mutants --only rollout.py    those whose file, reason or tests name it

An entry of a list is

    [[mutant]]
    file = "src/taskbelief/replay.py"
    before = "text that occurs exactly once in the file"
    after = "what replaces it"
    why = "what is then wrong"
    tests = ["tests/test_replay.py::test_that_must_fail"]

and optionally `status`, the expected exit status of pytest if not 1, "tests failed". This
command's exit status is 0 only if all tests pass without a fault, and each fault makes one of its
own tests fail. Faults are tried in forks of processes with the tests' imports (see forks.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.mutants.forks import HEAVY, Parent

ROOT = Path(__file__).parents[2]
SECONDS = 600  # time limit for the tests of one fault
# any test detects a fault with an undefined name or a failing import
BROKEN = re.compile(r"^E +(NameError|ImportError|ModuleNotFoundError).*", re.MULTILINE)


class Mutant(NamedTuple):
    file: str
    before: str
    after: str
    why: str
    tests: Sequence[str]
    status: int = 1


def load(folder: Path) -> list[Mutant]:
    """Loads the faults of all lists in `folder`. Raises TypeError for entries of another form."""
    lists = [tomllib.loads(path.read_text()) for path in sorted(folder.glob("*.toml"))]
    return [Mutant(**entry) for found in lists for entry in found["mutant"]]


def copy(root: Path, to: Path) -> Path:
    """Copies the files of `root` that git tracks or does not ignore, with uncommitted changes."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in set(names.stdout.split("\0")) - {""}:
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, to / name)
    return to


def environment() -> dict[str, str]:
    return {
        **os.environ,
        # Python compares bytecode and source by size and whole seconds, too coarse for faults
        "PYTHONDONTWRITEBYTECODE": "1",
        # programs that a fault does not change are compiled once for all copies
        "JAX_COMPILATION_CACHE_DIR": os.environ.get(
            "JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax")
        ),
    }


def options(tests: Sequence[str], *more: str) -> list[str]:
    """The arguments of pytest."""
    return ["-q", "-p", "no:cacheprovider", *more, *tests]


def pass_without_a_fault(tree: Path, tests: Sequence[str], jobs: int) -> tuple[int, str]:
    """Returns exit status and output of `tests` in `tree`, run in a separate process."""
    paths = os.pathsep.join([str(tree / "src"), str(tree)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options(tests, f"-n{jobs if jobs > 1 else 0}")],
        cwd=tree, env=environment() | {"PYTHONPATH": paths}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout


def faulty_text(tree: Path, mutant: Mutant) -> str:
    """Returns the text of the file of `tree` with the fault. Raises ValueError where the list is
    out of date."""
    path = tree / mutant.file
    if not path.is_file():
        raise ValueError("no such file")
    sound = path.read_text()
    if (count := sound.count(mutant.before)) != 1:
        raise ValueError(f"the text to replace occurs {count} times")
    faulty = sound.replace(mutant.before, mutant.after)
    try:
        compile(faulty, mutant.file, "exec")
    except SyntaxError as error:
        raise ValueError(f"the fault is no Python: {error}") from error
    return faulty


def attempt(parent: Parent, tree: Path, mutant: Mutant) -> tuple[str, str]:
    """Runs the fault's tests in `tree`: returns ("killed", "survived" or "error", details)."""
    try:
        faulty = faulty_text(tree, mutant)
    except ValueError as error:
        return "error", str(error)
    path = tree / mutant.file
    sound = path.read_text()
    try:
        path.write_text(faulty)
        status, output = parent.pytest(tree, options(mutant.tests, "-n0", "-x"), SECONDS)
    finally:
        path.write_text(sound)
    if status == 0:
        return "survived", ", ".join(mutant.tests)
    if status is None:
        return "error", f"not done after {SECONDS} s"
    if status != mutant.status:
        return "error", f"pytest ended with {status}\n{output[-2000:]}"
    if status == 1 and (broken := BROKEN.search(output)):
        return "error", f"fails for another reason: {broken[0]}"
    return "killed", ""


def run(
    root: Path, mutants: Sequence[Mutant], jobs: int, modules: Sequence[str] = HEAVY
) -> Counter[str]:
    """Counts the faults that were killed, survived or failed to run; prints a line for each."""
    found: Counter[str] = Counter()
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        trees = [copy(root, Path(folder, str(number))) for number in range(jobs)]
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        begun = time.monotonic()
        status, output = pass_without_a_fault(trees[0], tests, jobs)
        if status != 0:
            print(f"without a fault the tests do not pass: pytest ended with {status}\n{output}")
            return Counter(error=1)
        print(f"{time.monotonic() - begun:6.1f} s  passed    {len(tests)} tests without a fault")

        workers: queue.Queue[tuple[Parent, Path]] = queue.Queue()
        for tree in trees:
            workers.put((opened.enter_context(Parent(environment(), modules)), tree))

        def one(mutant: Mutant) -> None:
            parent, tree = worker = workers.get()
            begun = time.monotonic()
            try:
                what, details = attempt(parent, tree, mutant)
            finally:
                workers.put(worker)
            found[what] += 1
            line = f"{time.monotonic() - begun:6.1f} s  {what:8}  {mutant.file}: {mutant.why}"
            print(f"{line}\n{details}" if details else line, flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, mutants))
    return found


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", allow_abbrev=False)
    parser.add_argument("--only", default="", help="in the file, the reason or a test's name")
    parser.add_argument("--jobs", type=int, default=2, help="copies that are tried side by side")
    arguments = parser.parse_args(args)
    mutants = [
        mutant
        for mutant in load(ROOT / "tests" / "mutants")
        if any(arguments.only in text for text in (mutant.file, mutant.why, *mutant.tests))
    ]
    begun = time.monotonic()
    found = run(ROOT, mutants, arguments.jobs) if mutants else Counter()
    print(
        f"{len(mutants)} faults: {found['killed']} killed, {found['survived']} survived,"
        f" {found['error']} errors; {(time.monotonic() - begun) / 60:.1f} minutes"
    )
    return 0 if mutants and found["killed"] == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
