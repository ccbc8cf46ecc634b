"""Test of the benchmark of start-up times: it runs and records its flags."""

import json

from benchmarks import start


def test_seconds_to_the_first_metrics_cold_and_warm(tmp_path, capsys):
    # the references of this environment are committed
    flags = "--env bandit --evaluation_tasks 4 --agent baseline --agent.hidden 4 --agent.encoder 4"
    flags += " --learner ppo --learner.minibatches 2 --train.envs 4 --steps 800 --rows 1"
    out = str(tmp_path / "start.json")
    start.main(["--json", "--repeats", "1", "--out", out, *flags.split()])
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["flags"] == flags
    assert row["cold_seconds"] > 0 and row["warm_seconds"] > 0
    assert json.loads((tmp_path / "start.json").read_text())["results"] == [row]
