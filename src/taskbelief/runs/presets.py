"""Presets: all departures from the defaults of components, per (env, agent, learner) and size.

The size "cpu" is for two CPU cores, in minutes; "paper" is the whole task. A key is the name of a
flag. A row with ANY applies to all names; rows with more names take precedence. Their scores:
README.md and experiments/results; experiments/notes has preliminary ones.
"""

from __future__ import annotations

from collections.abc import Mapping

ANY = "*"
SIZES = {
    "cpu": "Sizes for two CPU cores: minutes.",
    "paper": "The whole task, for an accelerator.",
}

Departures = Mapping[str, object]

PRESETS: Mapping[str, Mapping[tuple[str, str, str], Departures]] = {
    "cpu": {
        # The reference learns from reward alone; its critic does not read the task.
        **{(ANY, "baseline", name): {"learner.privileged": False} for name in ("svg0", "ppo")},
        # On-policy learners use large batches in few updates.
        **{
            (env, ANY, "ppo"): {"train.envs": 128}
            for env in ("semicircle", "sparse_navigation", "noisy_target")
        },
        ("bandit", ANY, ANY): {"label": "posterior_goal", "steps": 500_000},
        ("bandit", ANY, "ppo"): {"steps": 3_000_000, "learner.minibatches": 16},
        ("semicircle", ANY, ANY): {"label": "expert_goal"},
        # Driving backwards is found only while entropy is high; a longer horizon searches better.
        ("semicircle", ANY, "svg0"): {
            "steps": 2_000_000,
            "learner.gamma": 0.985,
            "learner.entropy_start": 1.0,
            "learner.entropy_target": -3.0,
        },
        ("semicircle", ANY, "ppo"): {"steps": 10_000_000, "learner.minibatches": 16},
        # A coarser grid, because the filter runs in every update.
        **{
            (env, "exact_belief", ANY): {"agent.hypotheses": 64}
            for env in ("semicircle", "noisy_target")
        },
        # The gradient of a density is larger than that of a mass, and would dominate the clipped
        # norm.
        **{
            (env, agent, ANY): {"agent.aux_weight": 0.1}
            for env in ("semicircle", "sparse_navigation", "noisy_target", "cheetah_velocity")
            for agent in ("aux_head", "belief")
        },
        # Descriptions of a hundred tasks are memorised; samples of the posterior are not.
        **{
            (env, ANY, ANY): {"label": "posterior_goal"}
            for env in ("sparse_navigation", "noisy_target")
        },
        # A shorter horizon distinguishes arms; on sparse_navigation, arrivals one step apart.
        ("bandit", ANY, "svg0"): {"learner.gamma": 0.9},
        # An oracle observes the goal of the true task, not of a sample.
        **{
            (env, "oracle", ANY): {"label": "description"}
            for env in ("sparse_navigation", "noisy_target")
        },
        # Twenty episodes at test: with fewer in training the belief forgets. To stand still on the
        # goal takes precision: little entropy and small steps in the end.
        ("sparse_navigation", ANY, "svg0"): {
            "env.episodes": 10,
            "steps": 2_400_000,
            "learner.gamma": 0.9,
            "learner.entropy_start": -1.0,
            "learner.entropy_target": -6.0,
            "learner.entropy_share": 0.8,
            "learner.learning_rate_end": 0.02,
        },
        ("sparse_navigation", ANY, "ppo"): {"steps": 5_000_000, "learner.minibatches": 16},
        # A dense reward, as published; hypotheses come to mean places if most meta-episodes find
        # something: many episodes. `train.batch` counts tasks.
        ("sparse_navigation", "pearl", "sac"): {
            "dense": True,
            "env.episodes": 20,
            "steps": 5_000_000,
            "evaluations": 10,
            "train.envs": 50,
            "train.updates": 500,
            "train.batch": 16,
            "train.replay_rows": 7600,
            "train.warmup": 2,
            "train.shards": 1,
        },
        ("noisy_target", ANY, "ppo"): {"steps": 5_000_000, "learner.minibatches": 16},
        # Few evaluations of few tasks, because the physics takes half of the time.
        ("cheetah_velocity", ANY, ANY): {
            "steps": 2_800_000,
            "evaluations": 10,
            "evaluation_tasks": 64,
        },
        # To keep a speed takes precision too.
        ("cheetah_velocity", ANY, "svg0"): {
            "learner.entropy_start": -6.0,
            "learner.entropy_target": -18.0,
            "learner.entropy_share": 0.8,
            "learner.learning_rate_end": 0.02,
        },
        # A feed-forward policy on a frozen belief does not learn the gait well.
        ("cheetah_velocity", "belief", ANY): {"agent.policy_hidden": 64},
        ("cheetah_velocity", ANY, "ppo"): {"steps": 6_000_000},
        # The full pads and length, with help in training and none at test (notes/numpad.md). 464 of
        # the 496 sequences are training tasks, because a hundred are memorised.
        ("numpad", ANY, ANY): {
            "label": "posterior_goal",
            "env.train_tasks": 464,
            "env.cues": "next",
            "env.cue_share": 0.4,
            "env.mercy_share": 0.6,
            "steps": 2_400_000,
        },
        # Fewer updates per step than elsewhere: with more, the policy memorises the replay, and
        # hold-out scores drop. A longer horizon learns more slowly. Less entropy, because one
        # accidental press ends a sequence.
        ("numpad", ANY, "svg0"): {
            "train.updates": 32,
            "learner.gamma": 0.95,
            "learner.entropy_target": -2.5,
        },
        # A recurrent policy on the frozen belief ends higher.
        ("numpad", "belief", "svg0"): {"agent.policy_hidden": 64},
        ("numpad", ANY, "ppo"): {"steps": 12_000_000},
        ("numpad", "oracle", ANY): {
            "label": "expert_goal",
            "env.cues": "none",
            "env.cue_share": 0.0,
            "env.mercy_share": 0.0,
            "steps": 1_000_000,
        },
    },
    "paper": {
        (ANY, ANY, ANY): {"steps": 50_000_000},
        **{(ANY, "baseline", name): {"learner.privileged": False} for name in ("svg0", "ppo")},
        ("numpad", ANY, ANY): {
            "label": "posterior_goal",
            "env.cues": "next",
            "env.cue_share": 0.4,
            "env.mercy_share": 0.6,
            "train.envs": 128,
        },
        # Wide batches for an accelerator.
        ("numpad", ANY, "svg0"): {"train.batch": 32, "train.updates": 64},
        **{
            ("numpad", agent, ANY): {"agent.hidden": 128}
            for agent in ("aux_head", "baseline", "belief", "oracle")
        },
        ("cheetah_velocity", "belief", ANY): {"agent.policy_hidden": 64},
        ("numpad", "oracle", ANY): {"label": "expert_goal"},
        ("sparse_navigation", "pearl", "sac"): {
            "dense": True,
            "env.episodes": 20,
            "learner.actor_hidden": 300,
            "learner.critic_hidden": 300,
            "learner.transitions": 256,
            "agent.context": 1024,
            "agent.encoder": 200,
            "agent.encoder_layers": 3,
            "agent.prior_episodes": 5,
            "train.updates": 1000,
            "train.batch": 16,
            "train.replay_rows": 51_200,
        },
    },
}


def departures(size: str, env: str, agent: str, learner: str) -> Departures:
    """Returns the departures of preset `size` for this combination: {flag: value}."""
    names = (env, agent, learner)
    table = PRESETS[size]
    matching = [
        key
        for key in table
        if all(part in (ANY, name) for part, name in zip(key, names, strict=True))
    ]
    merged: dict[str, object] = {}
    for key in sorted(matching, key=lambda key: sum(part != ANY for part in key)):
        merged |= table[key]
    return merged
