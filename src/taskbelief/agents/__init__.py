"""Agents, one per file: recurrent maps from the history to features.

Each file has a frozen `Config`, whose `needs` declares its requirements of a problem, and
`make(problem, config) -> Agent`.
"""
