"""Test of the wheel, outside the checkout: it trains on the README's example environment."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
HORIZON = 20
# appended to the README's example, to save what the test checks
_KEEP = """
import numpy as np
import sys

np.savez("shown.npz", error=error, posterior=played.posterior)
print(taskbelief.__file__, "experiments" in sys.modules)
"""


def call(*command, cwd, **environment):
    """Returns the output of `command`, which runs without this process's PYTHONPATH."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a new environment with the wheel and this environment's dependencies, and its
    site-packages."""
    pytest.importorskip("setuptools", minversion="77")  # pyproject.toml requires it
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    call(sys.executable, "-c", build, cwd=source)
    (wheel,) = place.glob("taskbelief-*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", "new", cwd=place)
    python = place / "new" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(call(python, "-c", where, cwd=place).strip())
    # adds the directory alone: .pth files in it, of editable installs, have no effect
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    call(sys.executable, *install, cwd=place)
    return python, site


def test_an_environment_of_ones_own(installed, tmp_path):
    """Runs the README's block unchanged, as a user's file."""
    python, site = installed
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n((?:(?!```).)*taskbelief\.train\(.*?)```", readme, re.DOTALL)
    (tmp_path / "line.py").write_text(block + _KEEP)
    score, origin, experiments = call(python, "line.py", cwd=tmp_path, MPLBACKEND="agg").split()
    assert Path(origin).is_relative_to(site) and experiments == "False"
    assert 0.0 < float(score) < HORIZON
    with np.load(tmp_path / "shown.npz") as shown:
        error, posterior = shown["error"], shown["posterior"]
    assert error.shape == (HORIZON, 4, 1)
    np.testing.assert_allclose(posterior[0], 0.0, atol=1e-5)  # the prior's mean
    # the mean error of a belief that stays at the prior is half a unit; a trained one has less
    assert float(np.mean(error)) < 0.3
    assert (tmp_path / "line.png").stat().st_size > 5000
    assert (tmp_path / "line-agent").is_dir()
