# Each target sets up .venv by itself and does nothing when the set-up is current.
#   make demo                      the whole way on a synthetic archive
#   make demo ARCHIVE=path-or-URI  the same on recordings of yours
#   make test | lint | docs | bench
#   make audit                     known vulnerabilities of the versions in constraints.txt; asks PyPI, or AUDIT='--vulnerability-service osv --osv-url URL'
# torch: pip's own settings (find-links, index) decide which build is taken; without any, the package index's ordinary
# build is, which runs with and without a GPU. A small CPU-only or another CUDA build: make TORCH_BACKEND=cpu (cu126, …).

PYTHON ?= python3
ARCHIVE ?=
ROOT ?= $(if $(ARCHIVE),demo-$(notdir $(patsubst %/,%,$(ARCHIVE))),demo)
TORCH_BACKEND ?=
TESTS ?= tests
AUDIT ?=

BIN := .venv/bin
READY := .venv/.ready
PACKAGES_READY := build/packages/.ready
PACKAGES := $(shell grep -E '^uv==' constraints.txt)

.PHONY: setup demo test test-packages lint docs bench audit clean
.DELETE_ON_ERROR:

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (about 2 GB; only when pyproject.toml or constraints.txt changed)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "emeg needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PACKAGES)
	UV_FIND_LINKS="$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)" \
	  $(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) \
	  --compile-bytecode --constraint constraints.txt --editable '.[dev,baselines,docs]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/emeg demo --root '$(ROOT)' $(if $(ARCHIVE),--archive '$(ARCHIVE)')

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile \
	  --no-loadscope-reorder --durations 25 $(TESTS)

# braindecode, MOABB, skorch and OpenEEGBench run emeg's networks; they are installed beside .venv, not into it, with the
# same versions and the same build of torch. The package index has torchaudio for the CUDA build of torch only: beside
# another build its compiled library cannot be loaded, and its functions in Python, which braindecode uses, do without.
test-packages: $(PACKAGES_READY)
	OMP_NUM_THREADS=1 build/packages/bin/python -m pytest -q -rs tests/integration/test_other_packages.py

$(PACKAGES_READY): tests/integration/packages.txt pyproject.toml constraints.txt | $(READY)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python build/packages
	UV_FIND_LINKS="$$($(BIN)/python -m pip config get global.find-links 2>/dev/null || true)" \
	  $(BIN)/uv pip install --quiet --python build/packages/bin/python \
	  $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --constraint constraints.txt \
	  --requirement tests/integration/packages.txt --editable . pytest pytest-xdist
	build/packages/bin/python -c 'import torchaudio' 2>/dev/null \
	  || rm -f build/packages/lib/python*/site-packages/torchaudio/lib/*.so
	build/packages/bin/python -c 'import torchaudio, braindecode, moabb, open_eeg_bench, skorch'
	@touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py tests/test_mirror.py tests/test_style.py

docs: $(READY)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --jobs auto -b html docs build/docs
	@echo "$(CURDIR)/build/docs/index.html"

bench: $(READY)
	$(BIN)/python -m benchmarks

# strict: a version that could not be checked is an error too. pip-audit has no offline mode: without PyPI, name a mirror of OSV.
audit: $(READY)
	@mkdir -p build
	@$(BIN)/uv tool run pip-audit==2.10.1 --strict --no-deps --disable-pip --progress-spinner off $(AUDIT) \
	  --requirement constraints.txt >build/audit.txt 2>build/audit.log; code=$$?; cat build/audit.txt; \
	  if [ $$code -eq 0 ] || [ -s build/audit.txt ]; then exit $$code; fi; \
	  echo "audit: nothing was checked: $$(grep -m 1 -i error build/audit.log || tail -n 1 build/audit.log). Run it where" \
	    "https://pypi.org/pypi/pip/json can be read, or give AUDIT='--vulnerability-service osv --osv-url URL'" >&2; exit 2

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
