"""Tests of the direction of imports; only some modules may access files or plot."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "taskbelief"
# package or module -> the others that it may import
WORDS = {"types", "registry"}
MIDDLE = {"envs", "networks", "posterior", "parallel", "replay", "rollout", "labels", "problem"}
ALLOWED = {
    "types": set(),
    "registry": {"types"},
    "envs": WORDS,
    "networks": WORDS,
    "posterior": WORDS | {"envs", "networks"},
    "parallel": set(),
    "replay": WORDS,
    "rollout": WORDS,
    "checks": WORDS,
    "foreign": WORDS | {"envs"},
    "explorer": WORDS | {"posterior", "rollout"},
    "labels": WORDS | {"networks", "posterior"},
    "problem": WORDS | {"networks", "posterior", "labels"},
    "render": WORDS | {"envs", "posterior"},
    "agents": WORDS | {"networks", "problem", "view"},
    "learners": WORDS | {"networks", "problem"},
    "evaluation": WORDS | MIDDLE,
    "view": WORDS,
    "card": WORDS | {"evaluation"},
    "scoring": WORDS | {"card", "evaluation", "explorer", "posterior", "rollout", "view"},
    "comparison": WORDS | MIDDLE,
    "training": WORDS | MIDDLE,
    "trainer": WORDS | MIDDLE | {"training", "evaluation", "comparison"},
    "exam": WORDS | {"card", "evaluation", "rollout", "trainer"},
    "runs": WORDS | {"parallel", "labels", "problem", "training", "trainer"},
    "api": WORDS
    | {"card", "evaluation", "exam", "posterior", "rollout", "runs", "scoring"}
    | {"training", "trainer"},
    "adapters": WORDS | MIDDLE | {"render", "view"},
    "__init__": {"registry", "checks", "api", "foreign", "adapters", "posterior", "scoring"},
}
# agents and learners do not import each other, except the oracle, which builds on the baseline
SIBLINGS = {("oracle", "baseline")}
OUTWARD = ("render", "runs", "api")  # they plot or access files
FORBIDDEN = {"matplotlib", "experiments", "benchmarks", "time", "os", "io"}


def imports(path: Path) -> set[str]:
    """Every module that the file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.stem)
def test_one_way(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name in imports(path):
        top = name.split(".")[0]
        if room not in OUTWARD:
            assert top not in FORBIDDEN, f"{path.name} imports {name}"
        if top != "taskbelief":
            continue
        parts = name.split(".")[1:] or ["__init__"]
        if not (SOURCE / parts[0]).is_dir() and not (SOURCE / f"{parts[0]}.py").exists():
            parts = ["__init__"]  # a name that the package itself exports
        if parts[0] == room:
            if room in ("agents", "learners") and not parts[1].startswith("_"):
                assert (path.stem, parts[1]) in SIBLINGS, f"{path.name} imports {name}"
            continue
        assert parts[0] in ALLOWED[room] or parts[0] == "__init__", f"{path.name}: {name}"
