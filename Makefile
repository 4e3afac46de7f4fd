# Everything a new checkout needs: python3 (>= 3.11), pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
PLUGIN_DIRS := $(patsubst %/pyproject.toml,./%,$(PLUGINS))

.PHONY: demo test fast check docs clean strace

demo: $(VENV)/.demo  ## install .[demo] and run the main job on drawn smears
	$(BIN)/allkit demo --out allkit-demo --overwrite

test: $(VENV)/.dev strace  ## install everything and run all tests
	$(BIN)/python -m pytest

fast: $(VENV)/.dev  ## the tests without the slow ones
	$(BIN)/python -m pytest -m "not slow"

check: $(VENV)/.dev  ## style, types, layers, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

strace:  # to see that nothing is sent; the test that needs it says so where it is missing
	@command -v strace >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  apt-get install --yes -qq strace >/dev/null || \
	  { apt-get update -qq && apt-get install --yes -qq strace >/dev/null; } || true

docs: $(VENV)/.dev
	$(BIN)/mkdocs serve

clean:
	rm -rf $(VENV) site allkit-demo build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml $(PLUGINS)
	$(BIN)/python -m pip install --quiet --editable ".[demo]" --editable ./plugins/allkit-efficientnet-lite
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml $(PLUGINS)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(addprefix --editable ,$(PLUGIN_DIRS))
	touch $@
