# Each target does the set-up it needs. Needs Python 3.11+ with venv, Java 17+, make and git.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full test-nightly test-mutation check lint bench lock clean

# The Python that makes .venv: make PYTHON=python3.12
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
BIN := .venv/bin

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## make .venv from the locks and fetch the jars; quick when nothing changed
	@command -v $(PYTHON) >/dev/null 2>&1 || { printf '%s\n' \
	    "everview needs Python 3.11 or newer; there is no $(PYTHON). Name another one: make PYTHON=python3.12. To install it:" \
	    "  Debian, Ubuntu:  sudo apt-get install python3 python3-venv" \
	    "  Fedora:          sudo dnf install python3" \
	    "  macOS:           brew install python@3.12" >&2; exit 2; }
	@$(PYTHON) -m bootstrap

demo: setup ## the whole stack at work on a year of flights; Ctrl-C stops it
	@$(BIN)/python examples/flights/demo.py

test: lint ## everything: what check does, the slow tests, and those that start Kafka and Spark
	$(BIN)/pytest -m "not long" -n 2 --dist worksteal

test-full: setup ## the proofs that take long: run by hand, alone on the machine
	$(BIN)/pytest -m long -s

test-nightly: setup ## the law on 100,000 generated cases (EVERVIEW_CASES, EVERVIEW_SEED); goes on where it was stopped
	@$(BIN)/python -m tests.generated

test-mutation: setup ## does a test fail for each small change of the measures and what they compile to; hours
	$(BIN)/python -m tests.mutation

check: lint ## lint, format, types, import contracts and the fast tests
	$(BIN)/pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## the benchmarks
	@$(BIN)/python -m infra.bench

COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header

lock: setup ## write the locks anew from pyproject.toml and infra/jars.py (UPGRADE=1: newest versions)
	$(COMPILE) $(if $(UPGRADE),--upgrade) --all-extras --group bootstrap -o bootstrap/environment.lock pyproject.toml
	$(COMPILE) -c bootstrap/environment.lock -o bootstrap/bootstrap.lock --group pyproject.toml:bootstrap
	$(BIN)/python -m infra.jars --lock > .venv/jars.lock && mv .venv/jars.lock infra/jars.lock
	@$(MAKE) --no-print-directory setup

clean: ## remove what make made; the state of stacks (.everview) and the user's cache stay
	rm -rf .venv dist build examples/flights/data .mypy_cache .pytest_cache .ruff_cache .hypothesis \
	    .import_linter_cache spark-warehouse metastore_db derby.log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
