"""Environments of other libraries as environments of this one: their hidden parameters are the
task, and every agent can be trained on them.

    pendulum = taskbelief.from_gymnax(
        "Pendulum-v1", sample_params, describe, name="pendulum", episode_steps=100
    )
    taskbelief.train(pendulum, agent="belief")

A meta-episode lasts for `episodes` times `episode_steps` steps on one task. Where an episode
terminates before its time, another one of the same task begins. An environment that pays 1 for
each step survived therefore pays as much to those who fall: the fall has to cost something. The
time limits of the other libraries are not used.

What each function returns is a frozen dataclass of settings (`episode_steps`, `episodes`,
`train_tasks`, `holdout_tasks`, `reward_scale`), which are flags of the command line and can be
changed by `dataclasses.replace`. A module's variable that holds it, and has the name `name`, is the
environment "package.module:name" of the command line and of saved agents.
"""

from taskbelief.foreign.brax import from_brax
from taskbelief.foreign.gymnax import from_gymnax

__all__ = ["from_brax", "from_gymnax"]
