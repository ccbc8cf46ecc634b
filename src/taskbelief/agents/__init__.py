"""One agent, one file: what becomes of the history.

Each has a frozen `Config` and `make(spec, label, config) -> Agent`; `REVEALED = True` asks the
trainer for observations that contain the task (oracles).
"""
