"""Environments, one per file; `make` in each is a frozen dataclass of its settings."""
