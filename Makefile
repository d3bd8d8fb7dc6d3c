ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
PYTHON ?= python3
VENV := $(ROOT).venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
MODEL_DIR ?= services/ranker/models
LOG ?= $(ROOT)out/bootstrap.parquet
TRITON := $(ROOT).triton-venv
MODELS := $(BIN)/python -m services.candidate.text
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := bash

.PHONY: help run up replay test check format lint types protos models breaking train triton bench lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*## ' $(ROOT)Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

run: $(VENV)/.run protos ## Everything from nothing: five services, a few replayed days, then serve (ONCE=1: end after the table)
	@cd $(ROOT)
	$(MODELS) || true
	exec $(BIN)/heliograph run $(if $(ONCE),--once) $(ARGS)

up: $(VENV)/.run protos ## Postgres and the five services, on the wall clock, until Ctrl-C
	@cd $(ROOT)
	$(MODELS) || true
	exec $(BIN)/heliograph up

replay: $(VENV)/.run protos ## Replay days only, e.g. make replay ARGS="--days 5 --json out/replay.json"
	@cd $(ROOT)
	$(MODELS) || true
	exec $(BIN)/heliograph replay $(ARGS)

test: $(VENV)/.dev $(TRITON)/.tried protos ## Install what the tests need and run them all, on all cores (one after another: ARGS="-n 0")
	@cd $(ROOT) && exec $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

check: $(VENV)/.dev protos ## Format, lint, types, protos and the fast tests
	@cd $(ROOT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/python -m pytest tests/unit

format: $(VENV)/.dev ## Format code and protos
	@cd $(ROOT)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w protos

lint: $(VENV)/.dev protos ## Lint code and protos
	@cd $(ROOT)
	$(BIN)/ruff check .
	$(BIN)/buf lint

types: $(VENV)/.dev protos ## mypy --strict over everything
	@cd $(ROOT) && $(BIN)/mypy

protos: $(VENV)/.run ## Generate the stubs into gen/ (nothing to do when they are new)
	@cd $(ROOT) && $(BIN)/python tools/protos.py

models: $(VENV)/.run protos ## Fetch the text model (83 MB, once); without it, items are found without their text
	@cd $(ROOT) && $(MODELS)

breaking: $(VENV)/.dev protos ## Report what changed in the protos against the last commit (not enforced before v1)
	@cd $(ROOT)
	before=$$(mktemp -d)
	trap 'rm -rf "$$before"' EXIT
	git archive HEAD protos buf.yaml | tar -x -C "$$before"
	mkdir -p "$$before/gen" && cp -r gen/include "$$before/gen/"
	$(BIN)/buf breaking --against "$$before" || echo "Reported, not enforced: the protos are v1alpha1."

train: $(VENV)/.dev protos ## Make the bootstrap log and train the default ranking model from its seed
	@cd $(ROOT)
	mkdir -p $(dir $(LOG))
	$(BIN)/python -m simulation.bootstrap --out $(LOG)
	$(BIN)/heliograph ranker train --log $(LOG) --out services/ranker/models/bootstrap-1

triton: $(VENV)/.run $(TRITON)/.ready ## A Triton server on this machine's CPU, at 127.0.0.1:8001, with the models of MODEL_DIR
	@cd $(ROOT)
	$(BIN)/python -m deploy.triton.render --repository out/triton $(MODEL_DIR)/*/
	exec $(BIN)/python -m deploy.triton.server --repository out/triton $(ARGS)

bench: $(VENV)/.dev protos ## Run the benches and rewrite the tables in docs/evaluation.md
	@cd $(ROOT)
	$(BIN)/python -m bench.replay --json out/replay.json
	$(BIN)/python -m bench.volume --json out/volume.json
	$(BIN)/python -m bench.item_ranking --json out/item_ranking.json
	$(BIN)/python -m bench.inverse --json out/inverse.json --peers implicit faiss_flat
	$(BIN)/python -m bench.audience --json out/audience.json
	$(BIN)/python -m bench.publish --json out/publish.json
	$(BIN)/python -m bench.text_vectors --json out/text_vectors.json
	$(BIN)/python -m bench.candidate_quality --json out/candidate_quality.json
	$(BIN)/python -m bench.tables out/*.json

lock: $(VENV)/.dev ## Resolve the lock file anew from pyproject.toml
	@cd $(ROOT) && $(BIN)/pip-compile --quiet --extra dev --extra train --strip-extras --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --output-file requirements.lock pyproject.toml

clean: ## Remove the environment, the stubs and the local state
	@cd $(ROOT) && rm -rf .venv .triton-venv gen .heliograph out

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Heliograph needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python $(ROOT)pyproject.toml $(ROOT)requirements.lock
	@cd $(ROOT)
	echo "Installing (once) …"
	$(PIP) --config-settings editable_mode=compat --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	@cd $(ROOT)
	echo "Installing what tests and training need (once) …"
	$(PIP) --config-settings editable_mode=compat --editable '.[dev,train]'
	touch $@

$(TRITON)/.ready: $(VENV)/bin/python $(ROOT)deploy/triton/requirements.txt
	@cd $(ROOT)
	echo "Installing the Triton server (once; 450 MB, a minute or more) …"
	$(BIN)/python -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement deploy/triton/requirements.txt
	touch $@

$(TRITON)/.tried: $(ROOT)deploy/triton/requirements.txt
	@$(MAKE) --no-print-directory $(TRITON)/.ready || echo "No Triton server here: tests that need it are skipped."
	mkdir -p $(TRITON) && touch $@
