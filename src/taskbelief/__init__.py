"""taskbelief: meta reinforcement learning as task inference, in JAX."""

from taskbelief.registry import environments, make

__version__ = "0.1.0"
__all__ = ["__version__", "environments", "make"]
