"""Tests of the command line: refusals, help, and configs that are written and read back."""

import dataclasses
import itertools
import json

import pytest

import taskbelief
from experiments import command, references, sweep
from taskbelief import registry
from taskbelief.runs import config, presets


def refusal(capsys, *args) -> str:
    with pytest.raises(SystemExit) as end:
        command.parse(args)
    assert end.value.code == 2
    return " ".join(" ".join(capsys.readouterr()).split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--env", "numbad"], "unknown --env 'numbad': choose from bandit"),
        (["--env", "numbad"], "did you mean numpad?"),
        (["--agent", "auxhead"], "did you mean aux_head?"),
        (["--learner", "svg"], "did you mean svg0?"),
        (["--core", "grru"], "did you mean gru?"),
        (["--agent.core", "grru"], "did you mean gru?"),
        (["--preset", "gpu"], "choose from cpu, paper"),
        (["--label", "tasks"], "choose from description"),
        (["--agent", "baseline", "--label", "task_index"], "baseline learns from reward alone"),
        (["--agent.hiden", "3"], "unknown flag --agent.hiden: did you mean --agent.hidden?"),
        (["--sede", "3"], "did you mean --seed?"),
        (["--lr", "3"], "unknown flag --lr: did you mean --learner.learning_rate?"),
        (["--learner.lr=3"], "unknown flag --learner.lr: did you mean --learner.learning_rate?"),
        (["--batch-size", "3"], "did you mean --train.batch?"),
        (["--num-envs", "3"], "did you mean --train.envs?"),
        (["--hidden", "3"], "did you mean --agent.hidden?"),
        (["--learner.clip", "3"], "unknown flag --learner.clip: --help lists all flags"),
        (["--seed", "x"], "--seed"),
        (["--seed", "-1"], "--seed -1: must not be negative"),
        (["--env"], "expected one argument"),
        (["--steps", "0"], "--steps 0: must be at least 1"),
        (["--train.batch", "0"], "--train.batch 0: must be at least 1"),
        (["--train.envs", "7"], "multiple of --train.envs 7"),
        (["--env", "bandit", "--env.arms", "1"], "arms=1: must be at least 2"),
    ],
)
def test_refuses(capsys, args, said):
    assert said in refusal(capsys, *args)


def test_resume_needs_a_run(capsys, tmp_path):
    assert "is not a run: it has no config.json" in refusal(capsys, "--resume", str(tmp_path))


def test_resume_refuses_another_config(capsys, tmp_path):
    saved, _ = command.parse(["--env", "bandit", "--seed", "3"])
    (tmp_path / "config.json").write_text(json.dumps({"config": config.to_json(saved)}))
    resume = ["--resume", str(tmp_path)]
    assert command.parse(resume)[0] == saved
    assert command.parse([*resume, "--seed", "3", "--env", "bandit"])[0] == saved
    said = refusal(capsys, *resume, "--seed", "4", "--learner.gamma", "0.123")
    assert "--seed is 3 there, 4 here" in said
    assert f"--learner.gamma is {saved.learner.gamma} there, 0.123 here" in said
    assert "--env is bandit there, numpad here" in refusal(capsys, *resume, "--env", "numpad")


COMBINATIONS = list(
    itertools.product(
        registry.names("envs"), registry.names("agents"), registry.names("learners"), presets.SIZES
    )
)


@pytest.mark.parametrize("names", COMBINATIONS, ids="-".join)
def test_presets_fit_and_survive_json(names):
    chosen = config.default(*names)
    assert config.from_json(json.loads(json.dumps(config.to_json(chosen)))) == chosen


def test_settings_of_ones_own_survive_json():
    """One changed setting of each group, in addition to the preset's."""
    chosen = config.default("bandit", "belief", "svg0", "cpu")
    groups = {"env": {"arms": 7}, "agent": {"hidden": 3}, "learner": {"gamma": 0.123}}
    own = {
        group: dataclasses.replace(getattr(chosen, group), **changed)
        for group, changed in (groups | {"train": {"updates": 5}}).items()
    }
    changed = dataclasses.replace(chosen, seed=4, **own)
    again = config.from_json(json.loads(json.dumps(config.to_json(changed))))
    assert again == changed != chosen


@pytest.mark.parametrize("agent", ["aux_head", "oracle"])
@pytest.mark.parametrize("env", ["bandit", "numpad", "semicircle"])
def test_references_of_presets_are_committed(env, agent):
    """Otherwise each run measures them, which delays the first metrics by half a minute."""
    played = config.default(env, agent, "svg0", "cpu").env.at_test()
    identities = [
        {name: entry[name] for name in ("env", "settings")} for entry in references.load()
    ]
    assert references.identity(played) in identities


def test_help_explains_every_flag(capsys):
    with pytest.raises(SystemExit) as end:
        command.parse(["--env", "numpad", "--agent", "aux_head", "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    chosen = config.default("numpad", "aux_head", "svg0", "cpu")
    for group in ("env", "agent", "learner", "train"):
        for field in dataclasses.fields(getattr(chosen, group)):
            assert f"--{group}.{field.name} " in said
    assert " ".join(command.about(chosen).split()) in " ".join(said.split())
    # a text follows the flag and its type, never the default alone
    words = " ".join(said.partition(" options ")[2].replace("│", " ").split())
    assert words.count(" --") > 60
    for flag in words.split(" --")[1:]:
        assert not flag.partition(" ")[2].partition(" ")[2].startswith("(default"), flag


def test_help_lists_all_that_a_run_is_made_of(capsys):
    """Each name with the first line of its module's docstring."""
    with pytest.raises(SystemExit):
        command.parse(["--help"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for kind in ("envs", "agents", "learners", "labels"):
        for name in registry.names(kind):
            doc = registry.find(kind, name).__doc__.partition("\n")[0]
            assert f"{name} {doc}" in lines
    assert f"paper {presets.SIZES['paper']}" in lines


def test_a_run_begins_with_every_departure(monkeypatch):
    """It lists what the preset changes in the defaults, label included, and flags in the preset."""
    rows = {
        ("bandit", presets.ANY, presets.ANY): {"label": "posterior_goal", "learner.gamma": 0.5},
        ("bandit", "baseline", presets.ANY): {"learner.privileged": False},
    }
    monkeypatch.setitem(presets.PRESETS, "cpu", rows)
    chosen, _ = command.parse(["--env", "bandit", "--agent", "belief", "--seed", "3"])
    assert command.about(chosen) == (
        "Preset cpu of bandit, belief, svg0: --label posterior_goal (default: description),\n"
        "  --learner.gamma 0.5 (default: 0.97).\n"
        "By flags: --seed 3 (preset: 0)."
    )
    without_label = config.default("bandit", "baseline", "svg0", "cpu")
    assert command.about(without_label) == (
        "Preset cpu of bandit, baseline, svg0: --learner.gamma 0.5 (default: 0.97),\n"
        "  --learner.privileged False (default: True)."
    )
    paper = config.default("bandit", "belief", "svg0", "paper")
    assert command.about(paper).endswith("(default: 800000).")
    helped = dataclasses.replace(paper, env=taskbelief.make("numpad", mercy_share=0.5))
    assert command.about(helped).endswith("Evaluations are without env.mercy_share.")


@pytest.mark.parametrize(
    ("learner", "batch", "shards"), [("svg0", 4, 1), ("svg0", 8, 2), ("ppo", 4, 2)]
)
def test_small_batches_are_not_divided_among_devices(monkeypatch, learner, batch, shards):
    """Parts have at least four meta-episodes; an on-policy batch is all that an iteration plays."""
    monkeypatch.setattr(config.parallel, "usual_parts", lambda: 2)
    row = {("bandit", presets.ANY, presets.ANY): {"train.batch": batch}}
    monkeypatch.setitem(presets.PRESETS, "cpu", row)
    assert config.default("bandit", "belief", learner, "cpu").train.shards == shards


def test_the_sweeps_help_shows_its_examples(capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    assert sweep.__doc__.strip() in capsys.readouterr().out
