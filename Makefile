# `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two test processes with one thread each use a small machine best and keep results independent of the core count; each
# starts with half of the files, so that what the tests of a file share is mostly made once.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint types docs browser benchmark-quick constraints format clean sbom audit package-check fuzz coverage mutants

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

test: install  ## the tests that are quick: without long trainings, kills and whole documents
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not browser and not slow"

test-all: install  ## the whole test suite but the browser tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not browser"

lint: install  ## ruff: rules and format; bandit: what is known to be unsafe
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit -q -c pyproject.toml -r src

types: install  ## mypy
	$(BIN)/mypy

docs: install  ## build docs/_build/html, warnings are errors, tutorials are executed
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

browser: install  ## the tests that drive a real headless browser
	$(BIN)/python -m pytest -m browser tests

benchmark-quick: install  ## a look at the recovery study: small networks, two refits
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/recovery.py --quick --results "$$(mktemp -d)/recovery-quick.csv"

format: install  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: install  ## pin what is installed now
	(echo "# What \`make install\` installs, pinned: regenerate with \`make constraints\`."; \
	 $(BIN)/pip freeze --exclude-editable | sed -E 's/ @ .*//; s/\+cpu//' | grep -v '^gsnn') > constraints.txt.tmp
	mv constraints.txt.tmp constraints.txt

# Tools of a release have a place of their own, so that what they need is in no user's and no developer's environment.
TOOLS := $(VENV)/release-tools

$(TOOLS)/.installed: constraints-release.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-release.txt
	touch $@

sbom: install $(TOOLS)/.installed  ## dist/sbom.json: what is installed, as CycloneDX
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/sbom.json $(BIN)/python

audit: install $(TOOLS)/.installed  ## known vulnerabilities of what is pinned; needs the internet
	$(TOOLS)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

package-check: $(TOOLS)/.installed  ## wheel and sdist: build, check, install into an empty environment, run
	rm -rf dist/check && mkdir -p dist/check
	$(TOOLS)/bin/pyproject-build --outdir dist/check .
	$(TOOLS)/bin/twine check --strict dist/check/*
	for package in dist/check/*.whl dist/check/*.tar.gz; do \
	  rm -rf dist/check/venv && $(PYTHON) -m venv dist/check/venv && \
	  dist/check/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $$package && \
	  dist/check/venv/bin/gsnn --help > dist/check/help.txt && rm -rf dist/check/example && \
	  dist/check/venv/bin/gsnn simulate -o dist/check/example --kind layered --size 12 --samples 60 --quiet && \
	  dist/check/venv/bin/gsnn train --graph dist/check/example/network.sif --data dist/check/example/responses.csv \
	    --epochs 2 -o dist/check/example/run --quiet && \
	  dist/check/venv/bin/gsnn infer dist/check/example/run --quiet || exit 1; \
	done

coverage: install  ## the test suite but the browser tests, and what of src it reaches; under 95 % of the branches fails
	rm -f .coverage .coverage.*
	# Workers of a torch DataLoader, forked, end before their time under coverage's patch of multiprocessing.
	OMP_NUM_THREADS=1 NUMBA_CACHE_DIR="$$(mktemp -d)" $(BIN)/coverage run -m pytest -n $(WORKERS) -m "not browser" \
	  --deselect tests/io/test_anndata.py::test_it_is_a_data_set_of_pytorch
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/coverage json -q -o .coverage.json
	@$(BIN)/python -c 'import json; t = json.load(open(".coverage.json"))["totals"]; \
	  taken, branches = t["covered_branches"], t["num_branches"]; \
	  print(f"{taken} of {branches} branches: {taken / branches:.1%}"); \
	  raise SystemExit(taken < 0.95 * branches and "95 % of the branches are wanted")'

fuzz: install  ## 100,000 damaged files for every reader, in four to fifteen minutes
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz

# Beside the environment, because it runs the tests in it and is needed for nothing else.
MUTATION := $(abspath $(VENV))/mutation-tools

$(MUTATION)/.installed: constraints-mutation.txt
	rm -rf $(MUTATION)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(MUTATION) -r constraints-mutation.txt
	touch $@

mutants: install $(MUTATION)/.installed  ## small changes of metrics, statistics, sparse maps: which do tests notice?
	PYTHONPATH=$(MUTATION) OMP_NUM_THREADS=1 $(BIN)/python tests/mutation $(ARGS)

clean:  ## remove what the targets made
	rm -rf $(VENV) docs/_build mutants .pytest_cache .mypy_cache .ruff_cache
