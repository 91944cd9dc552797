# genlab: every target sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# The versions to install; constraints-oldest.txt has the oldest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup run test test-quick test-pages test-slow test-cuda check-baseline mutants lint docs release bench format clean

help: ## print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv and install genlab with the tested versions of everything

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "genlab needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@echo "genlab: installing into $(VENV): some minutes and 8 GB, most of it PyTorch; pip says nothing meanwhile"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@
	@echo "genlab: installed; source $(VENV)/bin/activate, then genlab --help"

run: $(STAMP) ## train one model of each family on the embedded digits and compare them (a few minutes)
	$(BIN)/genlab train experiment=quickstart
	$(BIN)/genlab compare "$$(ls -d outputs/quickstart/*/ | tail -n 1)"

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

test: $(STAMP) ## run the tests, but for the slow ones
	$(PYTEST) -m "not slow"

test-quick: $(STAMP) ## run the mathematics and the contract of every model alone (two minutes)
	$(PYTEST) -m "not slow" tests/laws tests/models/test_contract.py tests/cli/test_layout.py

test-slow: $(STAMP) ## run the slow tests: every kill, many examples, long runs, clusters
	$(PYTEST) -m slow

test-pages: $(STAMP) ## run every command and snippet of README and docs, the trainings for one batch (six minutes)
	$(PYTEST) tests/cli/test_page_commands.py tests/cli/test_pages_run.py

test-cuda: $(STAMP) ## run the tests of CUDA, on a machine with a GPU
	$(BIN)/python -m pytest -m cuda tests/training

check-baseline: $(STAMP) ## train the cheapest recorded baseline again and compare it with its record (two minutes)
	OMP_NUM_THREADS=1 $(BIN)/genlab reproduce --check --retrain

mutants: $(STAMP) ## change ten files in 300 ways, see that their tests notice, and renew the record of it (ten minutes)
	PYTHONPATH=tests $(BIN)/python -m mutation.run

lint: $(STAMP) ## ruff check and format check, the import contracts, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

docs: $(STAMP) ## build the documentation site, build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "genlab: the site begins at build/site/index.html"

release: $(STAMP) ## build dist/ for PyPI, check it, and train with the wheel in a new environment; uploads nothing
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python -m twine check --strict dist/*
	GENLAB_DIST=$(CURDIR)/dist $(BIN)/python -m pytest tests/cli/test_package.py
	@ls -l dist

bench: $(STAMP) ## measure genlab's own speed (half an hour on a quiet machine)
	$(BIN)/python benchmarks/run.py

format: $(STAMP) ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches (outputs/ and data/ stay)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
