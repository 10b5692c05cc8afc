# Two commands for a newcomer: `make demo` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo test check lint bench docs clean help
.DEFAULT_GOAL := help

help:  ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[mini]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## Index the shipped corpus, search it with text and pictures, write demo.html
	$(BIN)/mmseek demo --output .

lint: $(VENV)/.dev  ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev  ## Run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: lint test  ## Everything that must hold before a change is merged

bench: $(VENV)/.dev  ## Measure speed side by side with what a user would pick instead
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/.dev  ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## Remove what the commands above made
	rm -rf $(VENV) build dist site demo_corpus demo_collection demo.html *.egg-info
