# `make demo` and `make test` need Python 3.11 or newer and nothing else; everything goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
PORT ?= 8080
IMAGE ?= .image
# Of image-test; empty: one that debootstrap makes.
PYTHON_IMAGE ?=
UV_VERSION := 0.13.9
# Two more than the cores: the tests with a real Airflow wait for it most of the time.
PYTEST_ARGS ?= -n $(shell expr 2 + $$(getconf _NPROCESSORS_ONLN)) --dist loadfile --no-loadscope-reorder

.PHONY: help demo up airflow down test soak image-test test-unit bench docs pictures check format lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.runtime ## Simulate two lenses, reduce them by hand and with Airflow, compare with the truth
	$(BIN)/python -m lightcurver_ops.demo run $(DEMO)

up: $(VENV)/.runtime ## Start a complete local Airflow with the two simulated lenses
	$(BIN)/python -m lightcurver_ops.demo up $(DEMO) $(PORT)

airflow: $(VENV)/.runtime ## A command of that Airflow: make airflow ARGS="dags list"
	@$(BIN)/python -m lightcurver_ops.demo airflow $(DEMO) $(PORT) $(ARGS)

down: $(VENV)/.runtime ## Stop it
	$(BIN)/python -m lightcurver_ops.demo down $(DEMO)

# One thread each: threads that share a core wait for each other.
test test-unit: export OPENBLAS_NUM_THREADS := 1

test: $(VENV)/.dev ## Run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.dev ## Backfill a season of 30 nights, ten times over, on SQLite and Postgres metadata (hours)
	LCOPS_BACKFILL_NIGHTS=30 LCOPS_BACKFILL_TIMES=10 $(BIN)/python -m pytest tests/end_to_end/test_airflow_backfill.py

image-test: $(VENV)/.dev ## Build the image and run its services (minutes; as root, with buildah, bubblewrap, debootstrap)
	PYTHON_IMAGE=$(PYTHON_IMAGE) LCOPS_IMAGE_TEST=$(IMAGE) $(BIN)/python -m pytest -v -rA tests/docker/test_built_image.py

test-unit: $(VENV)/.dev ## Run the tests that take less than a few seconds each
	$(BIN)/python -m pytest -m "not end_to_end" $(PYTEST_ARGS)

bench: $(VENV)/.runtime ## Benchmarks (hours): make bench ARGS="psf roi --quick"; results in benchmarks/results
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.dev ## Build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d docs/_build/trees docs docs/_build/html
	@echo "docs/_build/html/index.html"

pictures: $(VENV)/.dev ## Make the pictures of the tutorial again (minutes)
	$(BIN)/python -m docs.tools.pictures

check: $(VENV)/.dev ## Formatter, linter, import rules and type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --no-emit-find-links

lock: $(VENV)/.dev ## Resolve requirements*.in into the pinned, hashed requirements*.txt, docker/'s too
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) docker/requirements-build.in -o docker/requirements-build.txt
	$(LOCK) docker/requirements-gpu.in -o docker/requirements-gpu.txt

clean: ## Remove the environment, the demo and the image
	rm -rf $(VENV) $(DEMO) $(IMAGE)

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.runtime: $(VENV)/.uv requirements.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements-dev.txt
	@touch $@
