"""One agent, one file: what becomes of the history.

Each has a frozen `Config`, whose `needs` says what it asks of a problem, and
`make(problem, config) -> Agent`.
"""
