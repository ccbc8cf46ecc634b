"""Faults of one line that the tests must detect, in *.toml, and the command that tries them."""
