# Every target makes its own environment first; nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS ?= $(BIN)/python
# Of `make torture`: what is done, and how long each part may take, as in `make torture PARTS=fuzz SECONDS=9000`.
PARTS ?= crash faults disks kills soak damage large fuzz
SECONDS ?= 1800

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

torture: $(INSTALLED)  ## the longer runs of what must survive: resumable, results added up, one page of them
	failed=0; for part in $(PARTS); do \
		$(BIN)/python -m tests.torture $$part --seconds $(SECONDS) --out tests/torture/results/$$part.json || failed=1; \
	done; $(BIN)/python -m tests.torture report; exit $$failed

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis vecindex-demo.vx
