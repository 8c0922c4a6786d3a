# `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two test processes with one thread each use a small machine best and keep results independent of the core count.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types docs browser benchmark-quick constraints format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## make .venv with every extra, pinned by constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run: make PYTHON=python3.12 install")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install  ## train on real data, infer missing edges, write runs/demo/report.html
	$(BIN)/gsnn demo

test: install  ## the whole test suite but the browser tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not browser"

lint: install  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy
	$(BIN)/mypy

docs: install  ## build docs/_build/html, warnings are errors, tutorials are executed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

browser: install  ## the tests that drive a real headless browser
	$(BIN)/python -m pytest -m browser tests

format: install  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: install  ## pin what is installed now
	(echo "# What \`make install\` installs, pinned: regenerate with \`make constraints\`."; \
	 $(BIN)/pip freeze --exclude-editable | sed -E 's/ @ .*//; s/\+cpu//' | grep -v '^gsnn') > constraints.txt.tmp
	mv constraints.txt.tmp constraints.txt

clean:  ## remove what the targets made
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache
