"""Learners, one per file: policies, value functions and their losses on an agent's features.

Each file has a frozen `Config`, whose `needs` declares its requirements of a problem and of the
training loop, and `make(problem, agent, config, total_updates) -> Learner`.
"""
