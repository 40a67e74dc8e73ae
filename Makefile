# Two commands for everyone: `make run` serves the dashboard, `make test` proves it.
# PORT= changes the port; PIP_ARGS= is passed on to pip (without an NVIDIA GPU, PyTorch's CPU wheels save gigabytes).

SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8501
PIP_ARGS ?=
OUT ?= gpu.json
BIN := .venv/bin
# A module's tests stay together, so that what they share is made once; modules keep their order: those of the browser
# take longest and come first.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

.PHONY: run demo test test-fast check soak bench gpu pictures messages docs docs-check clean
.DEFAULT_GOAL := run

run: .venv/.installed
	@exec $(BIN)/flightdeck serve --port $(PORT)

demo: .venv/.installed
	@$(BIN)/python -m lora_backend demo --train

test: .venv/.installed-dev .venv/.browser
	$(BIN)/python -m pytest $(WORKERS)

# The minute before a commit: no browser, no training, nothing that takes seconds (`SLOW` in tests/conftest.py).
test-fast: .venv/.installed-dev
	$(BIN)/python -m pytest $(WORKERS) --fast

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.messages --check
	$(BIN)/python -m tools.docs --check

soak: .venv/.installed-dev .venv/.browser
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=search
	$(BIN)/python -m pytest -m soak

bench: .venv/.installed-dev .venv/.browser
	$(BIN)/python -m benchmarks

# What only an NVIDIA GPU can show, in under eight minutes: a table, and a JSON in OUT=. With WHEELS=folder nothing is
# downloaded: this machine's own torch and transformers are used, and what they lack is taken from the folder.
gpu: $(if $(WHEELS),.venv-gpu/bin/python,.venv/.installed-dev)
	@$(if $(WHEELS),.venv-gpu/bin/python -m benchmarks.on_gpu.wheels "$(WHEELS)")
	@$(if $(WHEELS),.venv-gpu,.venv)/bin/python -m benchmarks.gpu "$(OUT)"

.venv-gpu/bin/python:
	@$(PYTHON) -m venv --system-site-packages .venv-gpu

pictures: .venv/.installed-dev .venv/.browser
	$(BIN)/python -m tools.plan_picture
	$(BIN)/python -m tests.browser.pictures

# Collects the sentences of the code into the Chinese catalogue; new ones are left empty for a translator.
messages: .venv/.installed-dev
	$(BIN)/python -m tools.messages --update

# Writes the pages of docs/ that are made from the code; docs-check says which are out of date.
docs: .venv/.installed-dev
	$(BIN)/python -m tools.docs

docs-check: .venv/.installed-dev
	$(BIN)/python -m tools.docs --check

clean:
	rm -rf .venv .venv-gpu .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is not that. Install it, or name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. Install it: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.installed: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing what the dashboard and training need into .venv (once, a few minutes) …"
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .  # the command `flightdeck`
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	@echo "Installing what only checks and tests need …"
	@$(PIP) -r requirements-dev.txt
	@command -v cc gcc >/dev/null || { echo "No C compiler here: installing the ziglang wheel for the stub GPU driver …"; $(PIP) ziglang==0.17.1; }
	@touch $@

.venv/.browser: tests/browser/chromium.py .venv/.installed-dev
	@$(BIN)/python -m tests.browser.chromium
	@touch $@
