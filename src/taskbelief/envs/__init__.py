"""One environment, one file; `make` in each is a frozen dataclass of its settings."""
