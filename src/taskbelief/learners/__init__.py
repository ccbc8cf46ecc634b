"""One learner, one file: what becomes of the features.

Each has a frozen `Config` and `make(spec, agent, config) -> Learner`.
"""
