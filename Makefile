# Sets up .venv on first use, reuses it afterwards.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint mutants

run: .venv/ready
	$(BIN)/python -m experiments.run --env numpad --agent aux_head

test: .venv/ready
	$(BIN)/python -m pytest

# Faults of one line that tests must notice: about a quarter of an hour on two cores.
mutants: .venv/ready
	$(BIN)/python -m tests.mutants

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,test,dev,adapters]'
	touch .venv/ready
