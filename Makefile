# `make test`, `make demo` and the rest set up what they need by themselves.
PYTHON ?= python3.11
VENV := .venv
export OMP_WAIT_POLICY ?= PASSIVE
BIN := $(VENV)/bin
BENCH := build/benchmarks/bench.json

.PHONY: setup test lint demo screenshots bench bench-quality bench-sizes bench-memorization bench-files clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml host_stubs/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable './host_stubs[ui]' --editable '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: setup
	$(BIN)/host demo demo

screenshots: setup
	$(BIN)/python docs/screenshots.py

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	mkdir -p build/benchmarks
	$(BIN)/python -m pytest benchmarks/batches.py benchmarks/sampling.py benchmarks/sound.py --benchmark-json $(BENCH)
	$(BIN)/python -m benchmarks.speed $(BENCH)
	$(BIN)/python -m benchmarks.batches

bench-quality: setup
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.context

bench-sizes: setup
	$(BIN)/python -m benchmarks.sizes

bench-memorization: setup
	$(BIN)/python -m benchmarks.memorization

bench-files: setup
	$(BIN)/python -m benchmarks.crashes
	$(BIN)/python -m benchmarks.crowd
	$(BIN)/python -m benchmarks.saving

clean:
	rm -rf $(VENV) demo build dist host_stubs/build *.egg-info host_stubs/*.egg-info
