# Every verb works on a machine with Python >= 3.11, make and a package registry, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: serve test test-balancers test-docker test-numa test-ray test-frameworks lint format bench docs lock clean
.DEFAULT_GOAL := help

help: ## show the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

serve: $(VENV)/.serve ## install what serving needs and serve ir_models on http://127.0.0.1:8000
	$(BIN)/cpuserve serve $(ARGS)

test: $(VENV)/.test ## install what the tests need and pass them, numeric ones twice (ARGS="-k decode" narrows)
	@tests/run.sh $(BIN)/python $(ARGS)

test-balancers: $(VENV)/.test ## run nginx, HAProxy and Envoy before two servers (those that are installed)
	$(BIN)/python -m pytest -m balancers tests/deploy $(ARGS)

test-docker: $(VENV)/.test ## build and run the image without a container engine (Debian, root)
	CPUSERVE_CONTAINER_RESULT=docs/results/container.json $(BIN)/python -m pytest -m docker tests/docker $(ARGS)

test-numa: $(VENV)/.test ## try seats on emulated NUMA machines (Debian on x86_64; root, or QEMU installed)
	CPUSERVE_NUMA_RESULT=docs/results/numa-lab.json $(BIN)/python -m pytest -m numa tests/numa $(ARGS)

test-ray: $(VENV)/.test ## try servers, archives and Ray Serve on a Ray cluster of this machine (installs Ray: 400 MB)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/ray.txt
	$(BIN)/python -m pytest -m ray tests/cluster tests/batch tests/benchmarks/test_ray_serve.py $(ARGS)

test-frameworks: $(VENV)/.test ## compare with PyTorch and TensorFlow, try the training recipes (installs them: GBs)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/frameworks.txt
	$(BIN)/python -m pytest -m frameworks $(ARGS)

lint: $(VENV)/.test ## ruff and mypy strict
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(VENV)/.test ## rewrite the code the way lint wants it
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/.test ## measure all that docs/results keeps, a quarter of an hour (ARGS="--help")
	$(BIN)/python -m benchmarks.everything $(ARGS)

docs: $(VENV)/.test ## rewrite the generated parts of docs/ (settings and commands)
	$(BIN)/python docs/generate.py

lock: ## rewrite requirements/*.lock (needs uv)
	requirements/lock.sh

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "cpuserve needs Python >= 3.11; set PYTHON=/path/to/python3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements/serve.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/serve.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.lock requirements/trackers.lock requirements/deploy.lock $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/trackers.lock -r requirements/deploy.lock
	@touch $@
