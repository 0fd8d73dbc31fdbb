# `make test`, `make demo` and the rest set up what they need by themselves.
# The newest Python that is there and works: a version manager may put names on the path that start nothing.
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11; do \
  $$python -c 'import venv, ensurepip' >/dev/null 2>&1 && { echo $$python; break; }; done)
VENV := .venv
export OMP_WAIT_POLICY ?= ACTIVE
export GOMP_SPINCOUNT ?= 3000
BIN := $(VENV)/bin
BENCH := build/benchmarks/bench.json

.PHONY: setup test lint demo screenshots bench bench-quality bench-sizes bench-memorization bench-sound bench-page bench-play bench-team bench-devices kill-and-resume fuzz audit bench-files bench-large bench-finding bench-archive clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml host_stubs/pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "There is no Python from 3.11 to 3.14 here that can make a virtual environment." \
	  "Install one with its venv package, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable './host_stubs[play,ui]' --editable '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: setup
	$(BIN)/host demo demo

screenshots: setup
	$(BIN)/python docs/screenshots.py

# What is freed goes back to the system at once, so that the memory which each file takes is seen.
fuzz: setup
	OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=131072 $(BIN)/python -m benchmarks.fuzz

# Needs the network. Strict: it fails where a version could not be looked up.
audit: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[audit]'
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt || \
	  { echo "A pinned version is known to be vulnerable, or it could not be looked up: see above." >&2; exit 1; }

bench: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	mkdir -p build/benchmarks
	$(BIN)/python -m pytest benchmarks/batches.py benchmarks/sampling.py benchmarks/sound.py --benchmark-json $(BENCH)
	$(BIN)/python -m benchmarks.speed $(BENCH)
	$(BIN)/python -m benchmarks.batches
	$(BIN)/python -m benchmarks.opening

bench-quality: setup
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.context

bench-sizes: setup
	$(BIN)/python -m benchmarks.sizes
	$(BIN)/python -m benchmarks.augmentation

bench-memorization: setup
	$(BIN)/python -m benchmarks.memorization

bench-sound: setup
	$(BIN)/python -m benchmarks.sound_measure

bench-page: setup
	$(BIN)/python -m benchmarks.page
	$(BIN)/python -m benchmarks.open_pages

bench-play: demo
	$(BIN)/python -m benchmarks.play demo/demo.sda --write

bench-team: setup
	$(BIN)/python -m benchmarks.team --threads 2 --write

bench-devices: demo
	$(BIN)/python -m benchmarks.devices demo/demo.sda --write

kill-and-resume: setup
	$(BIN)/python -m benchmarks.kill_and_resume --write

bench-files: setup
	$(BIN)/python -m benchmarks.crashes
	$(BIN)/python -m benchmarks.crowd
	$(BIN)/python -m benchmarks.saving

bench-large: setup
	$(BIN)/python -m benchmarks.large

bench-finding: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.finding

bench-archive: setup
	$(BIN)/python -m benchmarks.archive

clean:
	rm -rf $(VENV) demo build dist host_stubs/build *.egg-info host_stubs/*.egg-info
