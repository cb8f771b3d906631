# Two commands matter: `make dev` and `make test`. Both set up everything first; `make help` lists the rest.

.DEFAULT_GOAL := help
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
# Whoever has it set would compile everything anew at every start of every program.
unexport PYTHONDONTWRITEBYTECODE

SETUP := @sh tools/python.sh
BIN := .venv/bin

ARGS ?=
T ?= tests
# How many that is, is in tests/support/pace.py.
WORKERS ?= auto

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## run the product on this machine; ARGS="--port 9000", ARGS=stop, ARGS=--help ...
	$(SETUP) local
	@exec $(BIN)/inn dev $(ARGS)

.PHONY: test
test: ## run the tests; T=tests/unit for some, ARGS="-k name -x" for pytest
	$(SETUP) dev
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadgroup $(ARGS) $(T)

.PHONY: cluster
cluster: ## a real single-node Kubernetes for the tests (root, Linux, Go); kept when it is whole
	$(SETUP) dev
	@exec $(BIN)/python infra/cluster up

.PHONY: cluster-down
cluster-down: ## remove every trace of it but the built programs
	$(SETUP) dev
	@exec $(BIN)/python infra/cluster down

.PHONY: soak
soak: ## hours of faults, resumable, and a table of what was reached; SOAK_SEEDS=20 ARGS="-x"
	$(SETUP) dev
	@exec $(BIN)/python tests/soak -n $(WORKERS) --dist loadgroup $(ARGS) $(sort $(wildcard tests/soak/soak_*.py))

.PHONY: coverage
coverage: ## the tests with branch coverage, of every process they start; T=tests/unit for some
	$(SETUP) dev
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term:skip-covered $(ARGS) $(T)

.PHONY: setup
setup: ## make .venv with everything in it; PYTHON=python3.12 for another Python
	$(SETUP) dev

.PHONY: check
check: ## the static gates: format, lint, types, layers
	$(SETUP) dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --warnings
	$(BIN)/lint-imports --no-logo

.PHONY: bench
bench: ## speed, as ratios with their goals; ARGS=--quick in less than a minute, ARGS="--only 6 7" for some rows
	$(SETUP) dev
	@exec $(BIN)/python tests/bench/run_all.py $(ARGS)

.PHONY: bench-scale
bench-scale: ## the rows about size: a million workspaces, 3,000 of them on an API server; ARGS=--quick
	$(SETUP) dev
	@exec $(BIN)/python tests/bench/run_all.py --scale --only 4 kwok $(ARGS)

.PHONY: images
images: ## build the images of infra/images with docker, podman or buildah; BASE=, LOAD=cluster, PIN=1, ARGS=--help
	$(SETUP) local
	@exec $(BIN)/python -m tools.image_build --base "$(BASE)" --load "$(LOAD)" --engine "$(ENGINE)" $(if $(PIN),--pin) $(ARGS)

.PHONY: lock
lock: ## write requirements/*.txt from pyproject.toml; ARGS=--upgrade for the newest of everything
	@[ -x $(BIN)/uv ] || sh tools/python.sh dev
	@$(BIN)/python tools/lock.py $(ARGS)

.PHONY: clean
clean: ## remove what was built; the data of `make dev` (.innkeeper) stay
	rm -rf .venv build dist test-artifacts .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
