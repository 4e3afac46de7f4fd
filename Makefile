# Everything a new checkout needs: python3 (>= 3.11), pip and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*/pyproject.toml)
PLUGIN_DIRS := $(patsubst %/pyproject.toml,./%,$(PLUGINS))
# A worker for each core, with one thread each: threads that wait for one another cost more than
# they bring. A file's tests stay together, so that they share what they prepare.
WORKERS ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) \
  --dist loadfile --no-loadscope-reorder

.PHONY: demo test fast nightly check audit sbom docs notebooks release wheelhouse clean strace \
  postgres chromium pictures

demo: $(VENV)/.demo  ## install .[demo] and run the main job on drawn smears
	$(BIN)/allkit demo --out allkit-demo --overwrite

test: $(VENV)/.dev strace postgres chromium  ## install everything and run the tests
	$(PYTEST) -m "not nightly"

fast: $(VENV)/.dev  ## the tests without the slow ones
	$(PYTEST) -m "not slow and not nightly"

nightly: $(VENV)/.dev chromium  ## the long tests, whose promises `make test` checks in a smaller form
	$(PYTEST) -m nightly

check: $(VENV)/.dev  ## style, types, layers, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

strace:  # to see that nothing is sent; the test that needs it says so where it is missing
	@command -v strace >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  apt-get install --yes -qq strace >/dev/null || \
	  { apt-get update -qq && apt-get install --yes -qq strace >/dev/null; } || true

postgres:  # the clinic is tested on it too; the tests that need it say so where it is missing
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || \
	  ! command -v apt-get >/dev/null || \
	  DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends postgresql \
	  >/dev/null 2>&1 || true

chromium:  # the pages are tested in it; the tests that need it say so where it is missing
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends chromium \
	    fonts-dejavu-core >/dev/null 2>&1; fc-cache -s >/dev/null 2>&1; } || true

pictures: $(VENV)/.dev chromium  ## of the workplace's pages, for the documentation; after `allkit app --demo`
	$(BIN)/python docs/screenshots.py docs/pictures

audit: $(VENV)/.dev  ## known holes in what is installed, with counts; needs the advisories of the package index
	$(BIN)/python benchmarks/supply_chain.py audit

sbom: $(VENV)/.dev  ## the bill of materials, as CycloneDX
	$(BIN)/python benchmarks/supply_chain.py sbom --out allkit.cdx.json

notebooks: $(VENV)/.dev  ## run the notebooks; their pages go into build/notebooks, where `make docs` finds them
	$(BIN)/python notebooks/run.py --out build/notebooks

docs: $(VENV)/.dev
	$(BIN)/mkdocs serve

release: $(VENV)/.dev  ## build all wheels into dist/, and use them in clean environments
	$(BIN)/python release/make.py $(if $(ONLY),$(addprefix --only ,$(ONLY))) $(if $(DRAFT),--draft)

# make wheelhouse                          the core
# make wheelhouse EXTRAS="train clinic"    with these extras
# make wheelhouse EXTRAS=demo PACKAGES=allkit-efficientnet-lite
# make wheelhouse PLATFORM=win_amd64 PYTHON_VERSION=3.12    for another computer
wheelhouse: $(VENV)/.dev  ## everything that pip needs to install allkit where there is no network
	$(BIN)/python release/wheelhouse.py --out wheelhouse $(addprefix --extra ,$(EXTRAS)) \
	  $(addprefix --package ,$(PACKAGES)) $(addprefix --platform ,$(PLATFORM)) \
	  $(addprefix --python ,$(PYTHON_VERSION))

clean:
	rm -rf $(VENV) site allkit-demo build dist wheelhouse docs/pictures allkit.cdx.json

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml $(PLUGINS)
	$(BIN)/python -m pip install --quiet --editable ".[demo]" --editable ./plugins/allkit-efficientnet-lite \
	  --editable ./plugins/allkit-dicom
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml $(PLUGINS)
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(addprefix --editable ,$(PLUGIN_DIRS))
	touch $@
