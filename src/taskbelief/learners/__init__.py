"""One learner, one file: what becomes of the features.

Each has a frozen `Config`, whose `needs` says what it asks of a problem and of the training
loop, and `make(problem, agent, config, total_updates) -> Learner`.
"""
