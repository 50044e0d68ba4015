# Two commands on a fresh machine: `make run` and `make test`. Everything they install stands in .venv.
#
#   make install   the environment: Thermoscope and what it runs on
#   make run       the server and the page on 127.0.0.1; the model is fetched on the first start
#   make test      the tests, with the page's where a Chromium is found
#   make check     lint, format, types, the import contract
#   make bench     speed and memory of decoding: a table, and a JSON line last
#
# Overridable, as in `make run PORT=9000 MODEL=my-model.gguf ARGS="--precision bf16"`:
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
MODEL ?= SmolLM2-135M-Instruct
ALIAS ?= gpt-4o
MARKS ?= not slow and not peer and not gpu and not data
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: install dev run test check bench

install: $(VENV)/installed
dev: $(VENV)/installed-dev

# The stamps are older than these two files only when something new is to be installed.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
			echo "$(PYTHON): got $$($(PYTHON) --version 2>&1), expected Python 3.11 or newer;" \
				"name another, as in: make install PYTHON=python3.12" >&2; exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV); }
	$(PIP) --editable .
	@$(BIN)/python -m thermoscope.models.kernels.build || true  # without a compiler PyTorch's kernels serve
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	@touch $@

run: install
	$(BIN)/thermoscope serve --port $(PORT) --model '$(MODEL)' --alias '$(ALIAS)' $(ARGS)

# A file stays in one process; with more threads than one, the processes would spin against each other.
test: dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m '$(MARKS)' $(ARGS)

check: dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: dev
	$(BIN)/python benchmarks/decode.py $(ARGS)
