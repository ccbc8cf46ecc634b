"""Everything with files, clocks and screens: `python -m experiments.run --help`."""
