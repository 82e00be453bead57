# Every target makes the environment it needs; only Python 3.11+, make and a package registry are presumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO_VENV := .venv-proto
INSTALLED := $(VENV)/.installed
FRAMEWORKS := $(VENV)/.frameworks
PROTO_INSTALLED := $(PROTO_VENV)/.installed
PROTOS := $(wildcard proto/ps_protocol/v1/*.proto)

# Without bytecode on disk each of the hundreds of processes that the tests start compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo examples test check bench proto test-compose fuzz soak clean

help:  ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# What pip says is shown when it fails.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Shardscope needs Python 3.11 or newer, and $(PYTHON) is none." >&2; \
		echo "Name another: make $(or $(MAKECMDGOALS),help) PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing Shardscope and its libraries into $(VENV); the first time this takes a minute or two."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --constraint constraints.txt \
		--editable '.[dev]' > $(VENV)/pip.log 2>&1 || { cat $(VENV)/pip.log; exit 1; }
	@touch $@

# Those whose models the adapters share: tests and examples have them, the demo and a cluster need none.
$(FRAMEWORKS): $(INSTALLED)
	@echo "Installing PyTorch, JAX, scikit-learn and pandas into $(VENV); the first time this takes some minutes."
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --constraint constraints.txt \
		--editable '.[frameworks]' > $(VENV)/frameworks.log 2>&1 || { cat $(VENV)/frameworks.log; exit 1; }
	@touch $@

$(PROTO_INSTALLED): tools/proto-requirements.txt
	@echo "Installing the protocol compiler into $(PROTO_VENV)."
	@$(PYTHON) -m venv $(PROTO_VENV)
	@$(PROTO_VENV)/bin/python -m pip install --disable-pip-version-check --progress-bar off \
		--requirement $< > $(PROTO_VENV)/pip.log 2>&1 || { cat $(PROTO_VENV)/pip.log; exit 1; }
	@touch $@

demo: $(INSTALLED)  ## Trains a digit classifier with 3 workers on 2 ps tasks.
	$(BIN)/shardscope up --ps 2 --workers 3 -- python examples/digits.py

examples: $(FRAMEWORKS)  ## Trains models of PyTorch and JAX with 3 workers on 2 ps tasks.
	$(BIN)/shardscope up --ps 2 --workers 3 -- python examples/torch_digits.py --sync "ssp(3)"
	$(BIN)/shardscope up --ps 2 --workers 3 -- python examples/torch_recommend.py
	$(BIN)/shardscope up --ps 2 --workers 3 -- python examples/jax_digits.py

# In the order of their folders, modules of long tests come first and those of short ones last. By default those with the
# fewest tests would come last, which are the longest, and one core would wait for the other. A test process that dies ends
# the run, which would else go on with fewer of them, or wait for ever.
test: $(FRAMEWORKS)  ## Runs every test but those that need a container engine.
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	    --max-worker-restart 0

check: $(FRAMEWORKS) $(PROTO_INSTALLED)  ## Lint, types, layers, generated code, fast tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PROTO_VENV)/bin/python tools/generate_protocol.py --check
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0 tests/unit tests/contract

bench: $(INSTALLED)  ## Measures all transports against the limits of this machine.
	$(BIN)/python -m benchmarks

proto: $(PROTO_INSTALLED)  ## Generates the code of the contract anew.
	$(PROTO_VENV)/bin/python tools/generate_protocol.py

test-compose: $(INSTALLED)  ## Runs the compose cluster on a real container engine.
	$(BIN)/python -m pytest -m compose tests/compose

fuzz: $(INSTALLED)  ## Fuzzes what a ps reads from a socket, for FUZZ_SECONDS (60).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.fuzz_socket_frames -max_total_time=$(or $(FUZZ_SECONDS),60)

soak: $(INSTALLED)  ## Kills ps tasks under load for minutes and compares the sums, as SOAK_OPTIONS say.
	$(BIN)/python -m tests.chaos.soak --kills 60 --updates 100000 --timeout 3600 $(SOAK_OPTIONS)
	$(BIN)/python -m tests.chaos.soak --replicas 1 --kills 40 --restarts 20 --stops 20 --timeout 3600 $(SOAK_OPTIONS)
	$(BIN)/python -m tests.chaos.soak --replicas 1 --rounds 100 --timeout 3600 $(SOAK_OPTIONS)
	$(BIN)/python -m tests.chaos.soak --replicas 1 --rounds 100 --coordinator etcd --timeout 3600 $(SOAK_OPTIONS)
	$(BIN)/python -m tests.chaos.soak --replicas 1 --durability journal --kills 20 --restarts 10 --stops 10 --outages 20 \
	    --timeout 3600 $(SOAK_OPTIONS)
	$(BIN)/python -m tests.chaos.epochs --kills 40 --stops 10 --shards 4000 --timeout 3600
	$(BIN)/python -m tests.chaos.epochs --replicas 1 --kills 40 --stops 10 --shards 4000 --timeout 3600
	$(BIN)/python -m pytest -m soak tests/chaos/test_checkpoint_cuts.py tests/property/test_failover_with_reads.py
	$(BIN)/python -m tests.unit.ps_server.replication.failover_search --faults 3

clean:  ## Removes the environments and what tools leave behind.
	rm -rf $(VENV) $(PROTO_VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
