# Every target builds .venv by itself; PYTHON names the interpreter that it is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SANDBOX := .sandbox/packages
export TRAINYARD_TEST_THREADS ?= 1

.PHONY: setup bench-setup demo test check test-cov test-cov-gate up down bench test-unit test-contract test-integration test-load test-chaos docs clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --constraint constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --constraint constraints.txt
	@touch $@

$(SANDBOX): | $(VENV)/.base   # what code in the sandbox imports, for tests; those that need it are skipped without
	@TRAINYARD_SANDBOX__PACKAGES=$(SANDBOX) PIP_RETRIES=1 $(BIN)/trainyard sandbox setup \
	  || echo "$(SANDBOX) cannot be made; tests that need it are skipped"

setup: $(VENV)/.dev $(SANDBOX)  ## the environments with everything that tests and checks need

demo: $(VENV)/.base           ## train, serve and sample the pocket model
	$(BIN)/trainyard demo

up: $(VENV)/.base             ## the stack of deploy/compose.yaml, or the server alone, on 127.0.0.1:8000
	scripts/stack.sh up

down:                         ## stop what `make up` started
	scripts/stack.sh down

test: $(VENV)/.dev $(SANDBOX)   ## every test but those marked slow and gpu, in two processes
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not gpu"

test-unit test-contract test-integration test-load test-chaos: test-%: $(VENV)/.dev $(SANDBOX)
	$(BIN)/pytest -q tests/$* -m "not slow and not gpu"

test-cov: $(VENV)/.dev $(SANDBOX)  ## the same with branch coverage, subprocesses included
	$(BIN)/python -m scripts.coverage_run

test-cov-gate: $(VENV)/.dev $(SANDBOX)  ## coverage, failing under the bars of docs/testing.md
	$(BIN)/python -m scripts.coverage_run --gate

check: $(VENV)/.dev           ## format, lint, types, imports, budgets, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m scripts.budgets
	$(BIN)/python -m scripts.reference --check

docs: $(VENV)/.dev            ## writes the generated reference anew
	$(BIN)/python -m scripts.reference

bench-setup: $(VENV)/.dev     ## the environments of the rivals, under .bench/
	$(BIN)/python -m benchmarks.setup

bench: $(VENV)/.dev bench-setup
	$(BIN)/python -m benchmarks.sft --quick
	$(BIN)/python -m benchmarks.decode --quick
	$(BIN)/python -m benchmarks.limits --quick
	$(BIN)/python -m benchmarks.gateway --quick

clean:
	rm -rf $(VENV) .sandbox .bench build dist .mypy_cache .ruff_cache htmlcov .coverage*
