"""Tests of the Python API: train, save, load and play, with a custom environment."""

import dataclasses
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import taskbelief
from taskbelief import api, posterior, scoring, types
from tests.test_problem import Place, Steps

SOFT = 0.05
TINY = {
    **{"hidden": 4, "encoder": 4, "head_hidden": 4, "actor_hidden": 4, "critic_hidden": 4},
    **{"envs": 4, "updates": 1, "train.batch": 4, "replay_rows": 8, "warmup": 1, "shards": 1},
    **{"rows": 3, "evaluation_tasks": 5, "belief_tasks": 2},
}


@dataclass(frozen=True)
class Known(Steps):
    """`Steps` with a goal, an expert and a likelihood."""

    def goal(self, obs, task):
        return task.x[None]

    def distance(self, state, task):
        return jnp.abs(state - task.x)

    def expert(self, key, state, task):
        return 1 + jnp.sign(jnp.round((task.x - state) / 0.3)).astype(jnp.int32)

    def initial_carry(self, task):
        return ()

    def log_likelihood(self, task, carry, obs, action, reward, next_obs):
        after = obs[0] + 0.3 * (action - 1)
        return carry, -jnp.abs(reward - (1.0 - jnp.abs(after - task.x))) / SOFT

    def hypotheses(self, num):
        return Place((jnp.arange(num) + 0.5) / num * 2 - 1), jnp.full(num, -jnp.log(num))


ENV = Known()


@pytest.fixture(scope="module")
def trained():
    seen: list[api.Progress] = []
    made = taskbelief.train(ENV, steps=5 * 24, seed=3, progress=seen.append, **TINY)
    return made, seen


def test_progress_is_told(trained):
    _, seen = trained
    assert [step.env_steps for step in seen] == [24 * (1 + done) for done in (1, 3, 4)]
    assert {step.total_steps for step in seen} == {5 * 24}
    assert 0 < seen[-1].metrics["return"] / 6 < 1.0
    assert "belief_nll" in seen[-1].metrics


def test_the_number_of_reports_changes_nothing(trained):
    made, _ = trained
    told_once = taskbelief.train(ENV, steps=5 * 24, seed=3, **TINY | {"rows": 1})
    jax.tree.map(np.testing.assert_array_equal, told_once.params, made.params)


def test_a_saved_agent_comes_back_bit_for_bit(trained, tmp_path):
    made, _ = trained
    made.save(tmp_path / "agent")
    again = taskbelief.load(tmp_path / "agent")
    assert again.config == made.config
    jax.tree.map(np.testing.assert_array_equal, again.params, made.params)
    with pytest.raises(ValueError, match="exists and is not empty"):
        made.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="is not a run"):
        taskbelief.load(tmp_path)
    record = json.loads((tmp_path / "agent" / "config.json").read_text())
    record["config"]["agent"]["hidden"] = 5
    (tmp_path / "agent" / "config.json").write_text(json.dumps(record))
    with pytest.raises(RuntimeError, match="no agent of this version"):
        taskbelief.load(tmp_path / "agent")


def test_a_rollout_with_beliefs_and_the_exact_posterior(trained):
    made, _ = trained
    tasks = made.env.task_set("holdout", 3)
    played = made.rollout(tasks, jax.random.key(0))
    assert played.state.shape == played.reward.shape == (6, 3)
    np.testing.assert_array_equal(played.state[0], 0.0)
    np.testing.assert_allclose(played.state[:, :, None], played.obs)
    after = np.asarray(played.state + 0.3 * (played.action - 1))
    np.testing.assert_allclose(after[:-1], played.state[1:], rtol=1e-5)
    np.testing.assert_allclose(played.reward, 1 - np.abs(after - np.asarray(tasks.x)), rtol=1e-5)
    # E[x | previous rewards] on a grid, in plain NumPy
    grid = (np.arange(500) + 0.5) / 500 * 2 - 1
    off = np.abs(np.asarray(played.reward)[..., None] - (1 - np.abs(after[..., None] - grid)))
    weights = np.exp(-np.cumsum(off, axis=0) / SOFT)
    mean = (weights @ grid) / weights.sum(axis=-1)
    np.testing.assert_allclose(played.posterior[1:, :, 0], mean[:-1], atol=1e-3)
    np.testing.assert_allclose(played.posterior[0], 0.0, atol=1e-5)
    # step by step: the agent's action given the history so far, and the label that it expects
    agent, params, carry = made.trainer.agent, made.params["agent"], made.initial_carry(3)

    @jax.jit
    def believe(carry, inputs):
        _, features = agent.unroll(params, carry, inputs, None)
        return agent.belief_mean(params, features)[0]

    act = jax.jit(made.act)
    last = jnp.zeros((1, 3), jnp.int32), jnp.zeros((1, 3))
    for t in range(6):
        begin = jnp.full((1, 3), t == 0)
        time = jnp.full((1, 3), t, jnp.int32)
        inputs = types.AgentInput(played.obs[t : t + 1], *last, begin, begin, time)
        np.testing.assert_allclose(played.belief[t], believe(carry, inputs), rtol=1e-4, atol=1e-6)
        carry, action = act(carry, inputs)
        np.testing.assert_array_equal(action, played.action[t])
        last = played.action[t : t + 1], played.reward[t : t + 1]
    assert np.abs(np.diff(played.belief, axis=0)).max() > 1e-3


def test_evaluation_is_scored_by_the_expert(trained):
    made, _ = trained
    found = made.evaluate()
    for name in ("return", "score", "score_over_explorer", "label_nll", "belief_kl"):
        assert f"eval/holdout/{name}" in found
    played = made.rollout(made.env.task_set("holdout", 5), jax.random.key(0))
    returns = np.asarray(played.reward).sum(axis=0).mean()
    assert found["eval/holdout/return"] == pytest.approx(returns, rel=1e-5)
    for split in ("train", "holdout"):  # each with its own random and expert returns
        played = scoring.beside(made.env, split, made.env.task_set(split, 5), seed=0)
        ends = {name: float(reference.returns.mean()) for name, reference in played.items()}
        share = (found[f"eval/{split}/return"] - ends["random"]) / (ends["expert"] - ends["random"])
        assert found[f"eval/{split}/score"] == pytest.approx(share, rel=1e-5)


def test_a_score_of_an_agent_is_its_evaluation(trained, tmp_path):
    """The results are bit-identical, for the agent itself and for the saved one."""
    made, _ = trained
    made.save(tmp_path / "agent")
    evaluated = made.evaluate()
    for agent in (made, taskbelief.load(tmp_path / "agent")):
        for split in ("holdout", "train"):
            card = taskbelief.score(agent, tasks=split)
            found = card.metrics()
            assert found.pop("calibration_error") == card.calibration.error
            wanted = {n: v for n, v in evaluated.items() if n.startswith(f"eval/{split}/")}
            assert {f"eval/{split}/{name}": value for name, value in found.items()} == wanted
    assert (card.policy, card.env, card.tasks) == ("belief, svg0", "tests.test_api:Known", "train")
    with pytest.raises(ValueError, match="knows its own"):
        taskbelief.score(made, "bandit")


def test_an_agent_is_scored_on_other_tasks_too(trained):
    """Actions and environment are deterministic: a task has the same result in any set."""
    made, _ = trained
    few = taskbelief.score(made, num=3)
    all_five = taskbelief.score(made, ENV)
    np.testing.assert_allclose(few.returns, all_five.returns[:3], rtol=1e-5)
    np.testing.assert_allclose(few.label_nll, all_five.label_nll[:, :3], rtol=1e-4)
    np.testing.assert_allclose(few.kl, all_five.kl, rtol=1e-3, atol=1e-5)  # of the first two tasks
    given = taskbelief.score(made, tasks=Place(made.env.task_set("holdout", 5).x[2:]))
    np.testing.assert_allclose(given.returns, all_five.returns[2:], rtol=1e-5)


def test_what_a_run_is_scored_by_is_kept_with_it(trained, tmp_path):
    made, _ = trained
    ends = {"random": 1.0, "expert": 3.0, "explorer": 2.0}
    scored = dataclasses.replace(made, references={"train": ends, "holdout": ends})
    scored.save(tmp_path / "agent")
    again = taskbelief.load(tmp_path / "agent")
    found = taskbelief.score(again)
    assert found.score == pytest.approx((made.evaluate()["eval/holdout/return"] - 1) / 2)
    assert again.evaluate()["eval/holdout/score"] == found.score


def test_a_pure_function_trains_the_same(trained):
    made, seen = trained
    run = taskbelief.train_function(ENV, steps=5 * 24, **TINY)
    params, metrics = jax.jit(jax.vmap(run))(jnp.stack([jax.random.key(3), jax.random.key(4)]))
    first = jax.tree.map(lambda leaf: leaf[0], params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), first, made.params)
    assert metrics["return"].shape == (2, 4)
    # reports of the first iteration, the next two and the last
    for step, part in zip(seen, ([0], [1, 2], [3]), strict=True):
        mean = float(np.mean(metrics["return"][0, np.array(part)]))
        assert step.metrics["return"] == pytest.approx(mean, rel=1e-5)
    assert not np.allclose(metrics["return"][0], metrics["return"][1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"env": "bandits"}, "did you mean 'bandit'"),
        ({"agent": "beliefs"}, "did you mean 'belief'"),
        ({"learner": "svg"}, "did you mean 'svg0'"),
        ({"hiden": 3}, "did you mean hidden"),
        ({"label": "task"}, "choose from description"),
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"envs": 7}, "multiple of --train.envs 7"),
        ({"agent": "pearl"}, "one single episode"),
        ({"label": "task_embedding"}, "needs --expert"),
        ({"num_seeds": 2}, "vmap train_function"),
        ({"horizon": 0, "env": "bandit"}, "must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(arguments, said):
    with pytest.raises(ValueError, match=said):
        taskbelief.train(**{"env": "bandit", **arguments})


def test_settings_are_the_presets_but_for_what_is_said():
    chosen = api.configure("bandit", "aux_head", hidden=7, arms=3, label="expert_goal")
    assert (chosen.agent.hidden, chosen.env.arms, chosen.label) == (7, 3, "expert_goal")
    assert chosen.learner.gamma == 0.9  # from the preset
    assert api.configure(ENV).env is ENV
    assert posterior.make(ENV, 10).init().log_probs.shape == (10,)
