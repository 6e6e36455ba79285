# Every target makes its own environment first; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS ?= $(BIN)/python

.PHONY: demo test check bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## build an index of 13 questions on disk and ask it one
	$(BIN)/vecindex demo

test: check  ## everything that must pass before a commit
	$(BIN)/python -m pytest -n 2

check: $(INSTALLED)  ## format, lint, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/numpydoc lint $$(git ls-files 'vecindex/*.py')

bench: $(INSTALLED)  ## vecindex beside what is installed, and its own cost, on synthetic data, in minutes
	$(BIN)/python -m benchmarks.vectors --rows 20000 --repeats 3 --python $(PEERS)
	$(BIN)/python -m benchmarks.stores --rows 10000 --repeats 3 --python $(PEERS)
	$(BIN)/python -m benchmarks.promise --seeds 5
	$(BIN)/python -m benchmarks.cost
	$(BIN)/python -m benchmarks.report

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis vecindex-demo.vx
