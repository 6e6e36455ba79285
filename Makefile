# Every target makes its own environment first; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS ?= $(BIN)/python

.PHONY: demo test check bench torture clean

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

torture: $(INSTALLED)  ## the longer runs of what must survive: resumable, results added up
	$(BIN)/python -m tests.torture crash --seconds 600 --out tests/torture/results/crash.json
	$(BIN)/python -m tests.torture faults --seconds 600 --out tests/torture/results/faults.json
	$(BIN)/python -m tests.torture disks --seconds 600 --out tests/torture/results/disks.json
	$(BIN)/python -m tests.torture.fuzz --seconds 600

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis vecindex-demo.vx
