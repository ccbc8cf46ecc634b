"""Tests of the mutation tester: it reports survivors and outdated lists."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.mutants.__main__ import (
    Mutant,
    attempt,
    copy,
    environment,
    faulty_text,
    load,
    options,
    run,
)
from tests.mutants.forks import Parent

SOURCE = "def double(x):\n    return 2 * x\n"
TESTS = """
from double import double

def test_of_two():
    assert double(2) == 4

def test_of_three():
    assert double(3) == 6
"""


@pytest.fixture(scope="module")
def parent():
    with Parent(environment(), modules=["pytest"]) as made:
        yield made


@pytest.fixture
def tree(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "double.py").write_text(SOURCE)
    (tmp_path / "test_double.py").write_text(TESTS)
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "ignored").write_text("")
    return tmp_path


def mutant(before="2 * x", after="x + 2", test="test_of_three", **given):
    return Mutant("src/double.py", before, after, "why", [f"test_double.py::{test}"], **given)


FOUND, UNSEEN = mutant(), mutant(test="test_of_two")  # 2 * 2 is 2 + 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (mutant(before="3 * x"), "occurs 0 times"),
        (mutant(before="x"), "occurs 2 times"),
        (mutant(after="2 *"), "no Python"),
        (mutant(after="2 * y"), "another reason: E       NameError"),
        (mutant(test="test_of_four"), "ended with 4"),
        (mutant()._replace(file="src/triple.py"), "no such file"),
    ],
)
def test_a_list_that_is_out_of_date_is_an_error(parent, tree, fault, expected):
    what, details = attempt(parent, tree, fault)
    assert what == "error"
    assert expected in details
    assert (tree / "src" / "double.py").read_text() == SOURCE


def test_all_are_counted_and_the_tree_itself_is_left_alone(tree, capsys):
    found = run(tree, [FOUND, UNSEEN, mutant(before="3 * x")], jobs=1, modules=["pytest"])
    assert found == {"killed": 1, "survived": 1, "error": 1}
    assert "2 tests without a fault" in capsys.readouterr().out
    assert (tree / "src" / "double.py").read_text() == SOURCE


def test_nothing_is_tried_where_the_tests_fail_without_a_fault(tree):
    (tree / "src" / "double.py").write_text(SOURCE.replace("2", "3"))
    assert run(tree, [mutant(before="3 * x")], jobs=1, modules=["pytest"]) == {"error": 1}


def test_each_fault_is_imported_anew_by_one_process(parent, tree):
    """The imports of a child process end with it, and the parent does not import them."""
    for fault, expected in ((FOUND, "killed"), (UNSEEN, "survived"), (FOUND, "killed")):
        assert attempt(parent, tree, fault)[0] == expected


def test_what_takes_too_long_has_no_status_and_is_ended(parent, tree):
    (tree / "test_slow.py").write_text(
        "import pathlib, subprocess, sys\n"
        "def test_slow():\n"
        "    late = 'import pathlib, time; time.sleep(3); pathlib.Path(\"late\").touch()'\n"
        "    subprocess.run([sys.executable, '-c', late])\n"
    )
    begun = time.monotonic()
    assert parent.pytest(tree, options(["test_slow.py"], "-n0"), 1.0)[0] is None
    assert time.monotonic() - begun < 2.5
    time.sleep(2.5)  # the processes that the test started have ended too
    assert not (tree / "late").exists()


def test_a_parent_in_which_jax_has_started_ends(tmp_path):
    (tmp_path / "starts_jax.py").write_text("import jax\njax.devices()\n")
    started = environment() | {"PYTHONPATH": str(tmp_path)}
    with (
        Parent(started, modules=["jax", "starts_jax", "pytest"]) as made,
        pytest.raises(RuntimeError, match="has ended"),
    ):
        made.pytest(tmp_path, [])


def test_a_copy_has_what_git_would_take(tree, tmp_path_factory):
    made = copy(tree, tmp_path_factory.mktemp("copy"))
    files = {path.name for path in made.rglob("*") if path.is_file()}
    assert files == {"double.py", "test_double.py", ".gitignore"}


def test_an_entry_of_another_form_is_refused(tmp_path):
    (tmp_path / "list.toml").write_text('[[mutant]]\nfile = "a"\nwhy = "b"\n')
    with pytest.raises(TypeError):
        load(tmp_path)


def test_our_own_lists_are_up_to_date():
    """Each fault has its place in the code, and each of its tests a function of that name."""
    root = Path(__file__).parent.parent
    for fault in load(root / "tests" / "mutants"):
        faulty_text(root, fault)
        for test in fault.tests:
            file, _, name = test.partition("[")[0].partition("::")
            assert f"def {name.rpartition('::')[2]}(" in (root / file).read_text(), test
