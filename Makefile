# Two commands for a newcomer: `make demo` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 2 --dist loadfile
# `make test CONSTRAINTS=` takes the newest version of everything.
CONSTRAINTS ?= --constraint constraints.txt
# setuptools warns of every editable installation; nobody can do anything about it.
INSTALL := PYTHONWARNINGS=ignore $(BIN)/pip install --quiet $(CONSTRAINTS) --editable

.PHONY: demo test check lint lock bench docs clean help
.DEFAULT_GOAL := help

help:  ## Show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[mini]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[dev]'
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

lock:  ## Take the newest versions of all dependencies, test with them, then commit constraints.txt
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet --editable '.[dev]'
	sed -n '/^#/p' constraints.txt > $(VENV)/lock.txt
	$(VENV)/lock/bin/pip freeze --exclude-editable >> $(VENV)/lock.txt
	mv $(VENV)/lock.txt constraints.txt && rm -rf $(VENV)/lock

clean:  ## Remove what the commands above made
	rm -rf $(VENV) build dist site demo_corpus demo_collection demo.html *.egg-info
