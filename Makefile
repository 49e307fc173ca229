# The commands of this project. `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11 and make;
# the tests of containers also want an engine: `make test` brings one as root on Debian, elsewhere they say what they miss.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_PROCESSES ?= 2
ALONE := tests/crash tests/chaos

.PHONY: install demo engine test test-fast test-crash check fix lock bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# Everything goes into .venv.
install: $(STAMP)

# The main job on the embedded defaults, from a fresh directory: no Docker, no root.
demo: install
	$(BIN)/python examples/demo.py

# A Docker engine, if none answers yet, gVisor, Podman, what a rootless engine and disks of their own take, and the test images.
engine:
	tests/engine/start runsc podman catatonit rootlesskit uidmap:newuidmap slirp4netns \
		netavark:/usr/lib/podman/netavark aardvark-dns:/usr/lib/podman/aardvark-dns \
		btrfs-progs:mkfs.btrfs xfsprogs:mkfs.xfs
	tests/engine/images

# All tests, crash and chaos cycles included: CHRONICLED_CRASH_CYCLES and CHRONICLED_CHAOS_CYCLES set how many (CI: 200
# and 100). Without an engine, those that need one are skipped. What kills at random has the machine for itself; the others
# mostly wait for processes and engines, so that two of them run side by side, those of one file one after another.
test: install
	-@$(MAKE) --no-print-directory engine
	code=0; \
	$(BIN)/python -m pytest $(ALONE) || code=$$?; \
	$(BIN)/python -m pytest tests $(ALONE:%=--ignore=%) --numprocesses=$(TEST_PROCESSES) --dist=loadfile || code=$$?; \
	exit $$code

# What a developer runs while writing: seconds.
test-fast: install
	$(BIN)/python -m pytest tests/unit tests/tidy tests/property

test-crash: install
	$(BIN)/python -m pytest tests/crash tests/chaos -s

# Types, lint, layers. Nothing is changed.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

fix: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Add new kinds and versions to the schema lock and the golden files; refuses to change what is there.
lock: install
	$(BIN)/chronicled migrate lock
	$(BIN)/python -m tests.golden.examples
	$(BIN)/python -m tests.golden.logs
	$(BIN)/python -m tests.golden.databases

# Speeds, as ratios to a floor or a peer measured in the same run. Minutes; leave the machine alone meanwhile.
bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
