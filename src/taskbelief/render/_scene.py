"""What a scene consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from taskbelief.render import _beliefs
from taskbelief.render._beliefs import Views
from taskbelief.render._parts import History, Panel


class Scene(NamedTuple):
    """How an environment is drawn, and beliefs about its tasks where that differs from the usual
    pictures."""

    # (axes, env, task, history)
    draw: Callable[[Any, Any, Any, History], None]
    # (panel, env, task, belief, labels of the hypotheses)
    draw_posterior: Callable[[Panel, Any, Any, Any, Any], None] = _beliefs.draw_posterior
    # (panel, env, probabilities [places, classes], views)
    draw_classes: Callable[[Panel, Any, np.ndarray, Views], None] = _beliefs.draw_classes
