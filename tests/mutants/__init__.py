"""Faults of one line that the suite must notice, in *.toml, and what tries them (__main__)."""
