# Two commands, each of which sets up everything it needs in a fresh clone:
#   make run     train on the default data set and print the results
#   make test    lint, types and tests
# Options of the run: make run ARGS="--seed 1 --epochs 10"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: run test clean

run: $(READY)
	$(BIN)/python experiments/run_svi.py --dataset tidigit $(ARGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# One environment serves both; it is made once, and again when what it is made of changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable ".[dev,espeak,align]" --constraint constraints.txt
	touch $@

clean:
	rm -rf $(VENV)
