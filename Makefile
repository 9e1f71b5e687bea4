# Commands people use. `make demo` and `make test` set up everything they need.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVICES := $(VENV)/.installed-services
# The first interpreter that runs and is 3.11 or 3.12; override with `make PYTHON=/path/to/python …`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$p; break; }; done)
HOME_DIR := $(CURDIR)/.mlops
export DAGSTER_HOME := $(HOME_DIR)/dagster
export DAGSTER_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export MPLBACKEND := Agg

.PHONY: help demo test dev check bench test-services clean constraints docs
help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(STAMP): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 found: install one, or call make PYTHON=/path/to/python"; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) ($$($(PYTHON) --version)) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints-uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r constraints.txt \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(SERVICES): $(STAMP) constraints-services.txt
	@echo "Installing what the services' tests need into $(VENV) …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r constraints-services.txt \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints-services.txt
	@touch $@

demo: $(STAMP) ## the whole story on real data, in a few minutes
	@$(BIN)/python -m deployments.demo.story

dev: $(STAMP) ## the Dagster UI with sensors on, over the same history, and the prediction server
	@$(BIN)/python -m deployments.dev

test: $(STAMP) ## all tests that need no extra server
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not services and not browser"

check: $(STAMP) ## lint, types, import contracts, definitions, docs' examples
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deployments.validate
	$(BIN)/python -m pytest docs mlops_assets README.md

bench: $(SERVICES) ## every figure, one JSON line each; ONLY=spine for one group
	@$(BIN)/python -m benchmarks $(ONLY)

test-services: $(SERVICES) ## integration tests on the real servers, Spark, Flink, and in a real browser
	@bash deployments/ci/services.sh $(BIN)/python -m pytest -m "services or browser"

constraints: ## resolve the pins again
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --quiet -o constraints.txt
	$(BIN)/uv pip compile pyproject.toml --extra services --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --quiet -c constraints.txt -o constraints-services.txt
	$(BIN)/uv pip compile constraints-flink.in --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-annotate --quiet -o constraints-flink.txt
	echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile - --universal --python-version 3.11 \
		--generate-hashes --no-header --no-emit-index-url --no-annotate --quiet -o constraints-uv.txt

docs: $(STAMP) ## write the generated pages again
	@$(BIN)/python -m mlops_assets.features.catalogue mlops_assets.products > docs/feature_catalogue.md

clean: ## remove what the commands made
	rm -rf $(VENV) .mlops dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
