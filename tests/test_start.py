"""Test of the benchmark of start-up times: it runs and records its flags."""

import json

from benchmarks import start
from tests.experiments import tiny


def test_seconds_to_the_first_metrics_cold_and_warm(tmp_path, capsys):
    flags = [*tiny.NAMES, *tiny.SIZES, "--steps", str(3 * tiny.ITERATION)]
    start.main(["--json", "--repeats", "1", "--out", str(tmp_path / "start.json"), *flags])
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["flags"] == " ".join(flags)
    assert row["cold_seconds"] > 0 and row["warm_seconds"] > 0
    assert json.loads((tmp_path / "start.json").read_text())["results"] == [row]
