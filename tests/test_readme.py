"""What the README shows, runs."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block):
    if "taskbelief.train(" in block:
        pytest.skip("test_readme_example.py")
    if "adapters" in block:
        pytest.importorskip("gymnax")
    exec(compile(block, "README.md", "exec"), {})
