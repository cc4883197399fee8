# Two commands matter: `make demo` and `make test`. Each does all the set-up it needs.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WORKERS ?= auto
RUN := runs/quickstart

.PHONY: help demo test test-fast lint types docs format clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## install, then raw text to a language model and its report (about 4 minutes)
	@if [ -e $(RUN)/recipe.toml ]; then $(BIN)/stemma resume $(RUN); else $(BIN)/stemma quickstart; fi

test: $(VENV)/.tested lint types docs  ## install, then lint, type check, build the docs, run the tests
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(VENV)/.tested  ## the tests that take less than ten seconds each
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

lint: $(VENV)/.tested  ## ruff: lint and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.tested  ## mypy, strict
	$(BIN)/mypy

docs: $(VENV)/.tested  ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.tested  ## let ruff format and fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## remove what the other targets made, but no run
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "stemma needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing stemma into $(VENV) (once; PyTorch is the large part)"
	$(PIP) --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@echo "Installing what the tests need"
	$(PIP) --editable '.[dev]'
	@touch $@
