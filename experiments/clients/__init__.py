"""Agents that others wrote, on our environments (README.md of this folder)."""
