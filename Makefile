# histoflow's own environment lives in .venv; nothing outside it is touched.

PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.setup-done

.PHONY: help setup demo test check bench serve clean

help:  ## Show these targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  \1\t/' | expand -t 12

setup: $(SETUP)  ## Install everything into .venv (about 4 minutes and 6 GB, once)

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "histoflow needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Use: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@echo "Installing (about 4 minutes) …"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	@touch $@

demo: $(SETUP)  ## Train and evaluate on generated tissue, offline, in a few minutes
	@$(BIN)/histoflow train demo

test: $(SETUP)  ## Run the tests
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

check: $(SETUP)  ## Static checks: ruff, formatting, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=.:plugins:flows $(BIN)/lint-imports --no-cache

bench: $(SETUP)  ## Run the benchmarks
	@for script in benchmarks/bench_*.py; do $(BIN)/python "$$script" || exit 1; done

serve: $(SETUP)  ## Start a Prefect server with UI, a worker and all deployments; Ctrl-C stops them
	@$(BIN)/histoflow up

clean:  ## Remove the environment and caches, not your data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
