"""Measures milliseconds of one SVG(0) update, and of the same update in PyTorch.

    python -m benchmarks.updates
    python -m benchmarks.updates --hidden 64 --batch 64 --json

The default size is that of pomdp-baselines' recurrent agents (Ni et al. 2022): actor and critic
with an LSTM of 128 units each, 32 meta-episodes of 120 steps (sparse_navigation, 6 episodes of 20).
Ours is the learner's `update` on the agent `baseline`, sharded over all devices (a CPU's cores) and
run several times in one program, as in training. PyTorch's has `nn.LSTM`, a thread for each core,
our initial parameters and the same batch; before the timing, memories, actions and values of both
are compared. Both are timed alternately; figures are medians without compilation. The speedup is
the median over pairs, with its quartiles: it varies with other work on the same cores.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import machine
from experiments import devices, stop
from taskbelief import parallel, problem, trainer, training
from taskbelief.agents import baseline
from taskbelief.envs.sparse_navigation import SparseNavigation
from taskbelief.learners import svg0
from taskbelief.networks import heads
from taskbelief.types import EnvSpec, Trajectory

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

UPDATES = 16  # in one call, ours in one program: about a second, like the calls of experiments.run
_PAUSE = 0.5  # seconds between calls, because threads of the previous one can still be busy
_EPISODE_STEPS = 20
_TOLERANCE = 1e-4


class Ours(NamedTuple):
    """An agent, a batch and a learner's state."""

    spec: EnvSpec
    agent: Any
    config: svg0.Config
    learner: Any
    state: Any
    batch: Trajectory
    parts: int


def ours(steps: int, batch: int, hidden: int) -> Ours:
    env = SparseNavigation(episode_steps=_EPISODE_STEPS, episodes=steps // _EPISODE_STEPS)
    posed = problem.make(env)
    agent = baseline.make(posed, baseline.Config(hidden=hidden, separate_cores=True))
    config = svg0.Config(actor_hidden=hidden, critic_hidden=hidden, privileged=False)
    learner = svg0.make(posed, agent, config, total_updates=1_000_000)
    parts = parallel.usual_parts()
    sizes = training.Config(envs=batch, batch=batch, replay_rows=batch, warmup=1, shards=parts)
    init_key, play_key = jax.random.split(jax.random.key(0))
    state = learner.init(init_key)
    collect = jax.jit(trainer.make(posed, agent, learner, sizes).collect)
    return Ours(posed.spec, agent, config, learner, state, collect(state.params, play_key), parts)


def our_updates(made: Ours) -> Callable[[], None]:
    """Returns a call that makes UPDATES updates."""
    mesh = parallel.mesh(jax.devices(), made.parts)
    batch = jax.device_put(made.batch, parallel.sharded(mesh, 1))
    state, key = jax.device_put((made.state, jax.random.key(1)), parallel.replicated(mesh))

    @jax.jit
    def updates(state: Any, batch: Trajectory, key: Any) -> tuple[Any, Any]:
        def update(state: Any, key: Any) -> tuple[Any, None]:
            return made.learner.update(state, batch, key)[0], None

        key, *keys = jax.random.split(key, UPDATES + 1)
        return jax.lax.scan(update, state, jax.numpy.stack(keys))[0], key

    def call() -> None:
        nonlocal state, key
        state, key = jax.block_until_ready(updates(state, batch, key))

    return call


# ---- the same in PyTorch ----------------------------------------------------------


def torch_updates(made: Ours) -> Callable[[], None]:
    """Returns a call that makes UPDATES updates."""
    torch.set_num_threads(devices.cpu_cores())
    network = _network(made)
    x, task_start, batch = _tensors(made)
    assert bool(task_start[0].all()) and not bool(task_start[1:].any())  # no resets in between
    _compare(made, network, x, batch["action"])
    target = copy.deepcopy(torch.nn.ModuleDict({name: network[name] for name in _CRITIC}))
    optimiser = torch.optim.Adam(network.parameters(), lr=made.config.learning_rate)
    entropy_cost = made.config.entropy_cost

    def call() -> None:
        nonlocal entropy_cost
        for _ in range(UPDATES):
            entropy = _update(made.config, network, target, optimiser, x, batch, entropy_cost)
            lacking = heads.action_head(made.spec.action).usual_entropy - entropy
            entropy_cost *= float(np.exp(made.config.entropy_rate * lacking))

    return call


def _network(made: Ours) -> Any:
    """Returns our network's layers with our parameters."""
    params = jax.tree.map(np.asarray, made.state.params)

    class NormalisedReLU(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return _normalised_relu(x)

    def linear(values: dict[str, Any]) -> Any:
        inputs, outputs = values["kernel"].shape
        layer = torch.nn.Linear(inputs, outputs, bias="bias" in values)
        layer.weight.data = torch.tensor(values["kernel"].T)
        if "bias" in values:
            layer.bias.data = torch.tensor(values["bias"])
        return layer

    def lstm(values: dict[str, Any]) -> Any:
        kernel = values["input"]["kernel"]
        layer = torch.nn.LSTM(kernel.shape[0], values["recurrent"].shape[0])
        layer.weight_ih_l0.data = torch.tensor(kernel.T)
        layer.weight_hh_l0.data = torch.tensor(values["recurrent"].T)
        layer.bias_ih_l0.data = torch.tensor(values["input"]["bias"])
        layer.bias_hh_l0.data.zero_()
        return layer

    def mlp(values: dict[Any, Any]) -> Any:
        layers = [linear(values[place]) for place in sorted(values)]
        between = [part for layer in layers[:-1] for part in (layer, NormalisedReLU())]
        return torch.nn.Sequential(*between, layers[-1])

    histories = params["agent"]["histories"]
    actor, critic = params["heads"]["actor"], params["heads"]["critic"]
    return torch.nn.ModuleDict(
        {
            "encoders": torch.nn.ModuleList(linear(histories[i]["encoder"]) for i in (0, 1)),
            "cores": torch.nn.ModuleList(lstm(histories[i]["core"]) for i in (0, 1)),
            "policy": mlp(actor["layers"]),
            "q_features": linear(critic["features"]),
            "q_action": linear(critic["action"]),
            "q_rest": mlp(critic["rest"]["layers"]),
        }
    )


def _tensors(made: Ours) -> tuple[Any, Any, dict[str, Any]]:
    """Returns (inputs of the networks, [T + 1, B, D]; task starts; inputs of the losses)."""
    batch = jax.tree.map(np.asarray, made.batch)
    inputs = batch.inputs
    read = (inputs.obs, inputs.prev_action, inputs.prev_reward[..., None])
    clock = inputs.elapsed[..., None] / made.spec.episode_steps
    x = np.concatenate([*read, inputs.episode_start[..., None], clock], axis=-1, dtype=np.float32)
    over = batch.task_end & batch.terminated
    wanted = {
        "action": batch.action,
        "log_prob": batch.log_prob,
        "reward": batch.reward,
        "discount": (made.config.gamma * (1.0 - over)).astype(np.float32),
    }
    tensors = {name: torch.tensor(value) for name, value in wanted.items()}
    return torch.tensor(x), torch.tensor(inputs.task_start), tensors


def _memory(network: Any, which: int, x: Any) -> Any:
    encoded = torch.relu(network["encoders"][which](x))
    return torch.cat([network["cores"][which](encoded)[0], x], dim=-1)


def _normalised_relu(x: Any) -> Any:
    return torch.relu(torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6))


def _q(network: Any, features: Any, action: Any) -> Any:
    base = network["q_features"](features)
    return network["q_rest"](_normalised_relu(base + network["q_action"](action)))[..., 0]


def _normal(params: Any) -> Any:
    mean, raw = params.chunk(2, dim=-1)
    squashed = heads.SquashedNormal(1)
    width = squashed.max_std - squashed.min_std
    return torch.distributions.Normal(mean, squashed.min_std + width * torch.sigmoid(raw))


def _log_prob(normal: Any, unsquashed: Any) -> Any:
    softplus = torch.nn.functional.softplus(-2.0 * unsquashed)
    return (normal.log_prob(unsquashed) - 2.0 * (np.log(2.0) - unsquashed - softplus)).sum(-1)


_CRITIC = ("q_features", "q_action", "q_rest")
_OPTIMISED_APART = (("encoders", "cores"), ("policy",), _CRITIC)


def _update(
    config: svg0.Config,
    network: Any,
    target: Any,
    optimiser: Any,
    x: Any,
    batch: dict[str, Any],
    entropy_cost: float,
) -> float:
    rim = 1.0 - heads.RIM
    normal = _normal(network["policy"](_memory(network, 0, x)))
    features = _memory(network, 1, x)
    critic_features = features[:-1]
    q = _q(network, critic_features, batch["action"])

    with torch.no_grad():
        drawn = normal.sample((config.action_samples,))
        expected = _q(target, features, torch.tanh(drawn).clamp(-rim, rim)).mean(0)[1:]
        now = _q(target, features[:-1], batch["action"])
        taken = torch.atanh(batch["action"].clamp(-rim, rim))
        played = torch.distributions.Normal(normal.mean[:-1], normal.stddev[:-1])
        ratio = torch.exp(_log_prob(played, taken) - batch["log_prob"])
        trace = config.lambda_ * ratio.clamp(max=1.0)
        returns = batch["reward"][-1] + batch["discount"][-1] * expected[-1]
        targets = [returns]
        for t in range(len(q) - 2, -1, -1):
            later = expected[t] + trace[t + 1] * (returns - now[t + 1])
            returns = batch["reward"][t] + batch["discount"][t] * later
            targets.append(returns)
        wanted = torch.stack(targets[::-1])
    critic_loss = 0.5 * (wanted - q).square().mean()

    here = torch.distributions.Normal(normal.mean[:-1], normal.stddev[:-1])
    drawn = here.rsample((config.action_samples,))
    frozen = list(network["q_features"].parameters())
    frozen += [*network["q_action"].parameters(), *network["q_rest"].parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    value = _q(network, critic_features.detach(), torch.tanh(drawn).clamp(-rim, rim))
    for parameter in frozen:
        parameter.requires_grad_(True)
    entropy = -_log_prob(here, drawn)
    actor_loss = -(value + entropy_cost * entropy).mean()

    optimiser.zero_grad()
    (critic_loss + config.actor_weight * actor_loss).backward()
    for part in _OPTIMISED_APART:
        parameters = [p for name in part for p in network[name].parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, config.max_gradient_norm)
    optimiser.step()
    with torch.no_grad():
        parameters = [p for name in _CRITIC for p in network[name].parameters()]
        torch._foreach_lerp_(list(target.parameters()), parameters, config.target_rate)
    return entropy.detach().mean().item()


def _compare(made: Ours, network: Any, x: Any, action: Any) -> None:
    """Ends the program unless both compute the same memories, actions and values."""
    agent, learner, params = made.agent, made.learner, made.state.params
    carry = agent.initial_carry(x.shape[1])
    unroll = jax.jit(lambda params, inputs: agent.unroll(params, carry, inputs, None)[1])
    features = unroll(params["agent"], made.batch.inputs)
    first = jax.tree.map(lambda leaf: leaf[:1], made.batch.inputs)
    _, acted, _ = jax.jit(learner.act, static_argnums=3)(params, carry, first, None)
    _, metrics = jax.jit(learner.update)(made.state, made.batch, jax.random.key(0))
    with torch.no_grad():
        memories = [_memory(network, which, x) for which in (0, 1)]
        mean = _normal(network["policy"](memories[0][0])).mean
        pairs = {
            "actor features": (memories[0], features.actor),
            "critic features": (memories[1], features.critic),
            "actions": (torch.tanh(mean), acted),
            "values": (_q(network, memories[1][:-1], action).mean(), metrics["q"]),
        }
    for name, (theirs, found) in pairs.items():
        gap = float(np.abs(theirs.numpy() - np.asarray(found)).max())
        if not gap < _TOLERANCE:
            stop.failed(f"PyTorch's network is not ours: {name} differ by {gap:.2g}")


# ---- timing -----------------------------------------------------------------------


def measure(steps: int, batch: int, hidden: int, repeats: int) -> dict[str, Any]:
    made = ours(steps, batch, hidden)
    calls = {"update": our_updates(made)}
    if torch is not None:
        calls["torch_update"] = torch_updates(made)
    for call in calls.values():  # compilation and warm-up
        call()
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(_PAUSE)
            start = time.perf_counter()
            call()
            seconds[name].append((time.perf_counter() - start) / UPDATES)
    row: dict[str, Any] = {"T": steps, "B": batch, "H": hidden}
    row |= {f"{name}_ms": round(1e3 * statistics.median(s), 1) for name, s in seconds.items()}
    if "torch_update_ms" in row:
        pairs = zip(seconds["torch_update"], seconds["update"], strict=True)
        ratios = [theirs / ours for theirs, ours in pairs]
        row["speedup"] = round(statistics.median(ratios), 2)
        if repeats > 1:
            lower, _, upper = statistics.quantiles(ratios, n=4)
            row["speedup_quartiles"] = [round(lower, 2), round(upper, 2)]
        row["torch"] = str(torch.__version__)
    return row


def main(args: Sequence[str] | None = None) -> None:
    parser = machine.parser("updates", "Milliseconds of an SVG(0) update.", repeats=21)
    parser.add_argument("--steps", type=int, default=120, help=f"a multiple of {_EPISODE_STEPS}")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    given = parser.parse_args(args)
    devices.from_cores()
    here = machine.machine()
    row = measure(given.steps, given.batch, given.hidden, given.repeats)
    print(json.dumps(row) if given.json else row)
    machine.write(given.out, here, [row])


if __name__ == "__main__":
    main()
