"""The README's own environment, trained from Python."""

import re
from pathlib import Path

import numpy as np
import pytest

from taskbelief import registry

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.filterwarnings("ignore")
def test_an_environment_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n((?:(?!```).)*taskbelief\.train\(.*?)```", README, re.DOTALL)
    shown = {}
    try:
        exec(compile(block, "README.md", "exec"), shown)
    finally:
        registry._registered.pop("line", None)
    horizon = 20
    assert 0.0 < float(capsys.readouterr().out) < horizon
    assert shown["error"].shape == (horizon, 4, 1)
    played = shown["played"]
    np.testing.assert_allclose(played.posterior[0], 0.0, atol=1e-5)  # the prior's mean
    # who knows nothing is off by half a unit on average; a belief that has learnt is not
    assert float(np.mean(shown["error"])) < 0.3
