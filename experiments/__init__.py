"""Command line and studies: `python -m experiments.run --help`."""
