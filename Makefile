# Two commands on a fresh machine: `make run` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where nothing compiled may be kept, each of hundreds of processes that tests start compiles clipsmith anew.
export PYTHONDONTWRITEBYTECODE :=
# Every version is locked, in pip's isolated build environments too; tests install other versions elsewhere.
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run up test test-heavy test-thorough bench bench-gpu lint clean

run: $(STAMP)
	$(BIN)/clipsmith optimize demo

# Prefect's UI on http://127.0.0.1:4200, and a worker; UP="--port 4201" for another port.
up: $(STAMP)
	$(BIN)/clipsmith up $(UP)

# File by file, in the order that tests/conftest.py gives them.
SPREAD := -n auto --dist loadfile --no-loadscope-reorder

test: $(STAMP) lint
	$(BIN)/pytest $(SPREAD) --durations 10 -m "not heavy" tests

test-heavy: $(STAMP)
	$(BIN)/pytest $(SPREAD) --durations 10 -m heavy tests

# Longer campaigns, every family as a whole release, every graph built for every GPU, before a release.
test-thorough:
	CLIPSMITH_THOROUGH=1 $(MAKE) test-heavy
	$(BIN)/python -m tests.benchmarks.ui_soak --minutes 30

# About ten minutes and 8 GB of disk: the cost of the ONNX export against the published recipe, and as models grow.
bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(BENCH)

# At most nine minutes: it begins no measurement after four; the tests that follow are ended after four more.
# For a machine with an NVIDIA GPU and a PyTorch of its own, which need not be this checkout's: GPU_PYTHON=python3.
# It needs the packages of tests/gpu/needs.py, and says first which are missing; for accuracy, what
# `python -m tests.gpu.demo` wrote where clipsmith is installed. Writes .clipsmith/bench-gpu/bench-gpu.{md,json}.
GPU_PYTHON ?= $(BIN)/python
bench-gpu:
	$(GPU_PYTHON) -m tests.gpu.needs
	$(GPU_PYTHON) -m tests.gpu --seconds 240 $(BENCH)
	timeout 240 $(GPU_PYTHON) -m pytest --noconftest --import-mode=importlib -q tests/gpu

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes first and alone: resolved together with packages that need it, pip may choose a CUDA build.
$(STAMP): constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[rtx,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(VENV)-recipe .mypy_cache .pytest_cache .ruff_cache
