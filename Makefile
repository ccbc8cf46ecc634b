# Sets up .venv on first use, reuses it afterwards.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint

run: .venv/ready
	$(BIN)/python -m experiments.run --env numpad --agent aux_head

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,test,dev,adapters]'
	touch .venv/ready
