# Everything a person types. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell tools/find-python)
export PATH := $(CURDIR)/$(BIN):$(PATH)

INVENTORY ?= inventories/local
ARGS ?=
DIST ?= dist

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP)  ## controller environment from the lock file, collection linked

$(STAMP): requirements/bootstrap.lock requirements/controller.lock requirements/collections.lock pyproject.toml
	@tools/setup "$(PYTHON)" "$(VENV)"
	@touch $@

# A live view on a terminal, plain lines elsewhere. ARGS are options of the command: see `.venv/bin/wideep up --help`.
WIDEEP = $(BIN)/wideep $(1) -i $(INVENTORY)
PROMETHEUS = -e '{"wideep_monitoring": {"enabled": true, "install_method": "unpack"}}'

.PHONY: up
up: setup  ## deploy (default: this machine, simulated engine) and prove it with a streamed completion; MONITORING=1 adds Prometheus
	@$(call WIDEEP,up) $(if $(filter 1,$(MONITORING)),$(PROMETHEUS)) $(ARGS)

.PHONY: down
down: setup  ## stop and remove what `make up` made; KEEP_STATE=1 keeps data, logs and environments, 0 does not
	@$(call WIDEEP,down) $(if $(KEEP_STATE),-e wideep_keep_state=$(if $(filter 1,$(KEEP_STATE)),true,false)) $(ARGS)

.PHONY: status
status: setup  ## what runs, how healthy it is, where its logs are
	@$(call WIDEEP,status) $(ARGS)

.PHONY: changes
changes: setup  ## what runs against what the inventory says, and the steps that lead there
	@$(call WIDEEP,changes) $(ARGS)

.PHONY: plan
plan: setup  ## who would run what; touches no host
	@$(call WIDEEP,plan) $(ARGS)

.PHONY: render
render: setup  ## write every file and command line below OUTPUT (default: build/render); touches no host
	@$(call WIDEEP,render) -o $(or $(OUTPUT),build/render) $(ARGS)

.PHONY: preflight
preflight: setup  ## check that the hosts can run the deployment; changes nothing
	@$(call WIDEEP,preflight) $(ARGS)

.PHONY: verify
verify: setup  ## prove again that it serves
	@$(call WIDEEP,verify) $(ARGS)

.PHONY: rehearse
rehearse: setup  ## the whole inventory on this machine, the simulated engine in place of the real one: no GPU
	@$(call WIDEEP,rehearse) $(ARGS)

.PHONY: test
test: setup  ## every suite that this machine can run; SUITES="lint unit" for some
	@$(BIN)/python tools/run_tests.py $(SUITES)

.PHONY: lint
lint: setup  ## ruff, mypy, import-linter, yamllint, ansible-lint
	@$(BIN)/python tools/run_tests.py lint

.PHONY: bench
bench: setup  ## how plan and render grow with hosts; a run that changes nothing, and a host in it, against pings
	@$(BIN)/python tools/bench_scale.py
	@$(BIN)/python tools/bench.py
	@$(BIN)/python tools/bench_site.py

.PHONY: proof
proof: setup  ## changes and faults under load, a table in docs/reference/proof.md; PROOF="--requests 10000" (root, podman)
	@$(BIN)/python -m tools.proof --page $(PROOF)

.PHONY: kube-up
kube-up: setup  ## a real Kubernetes API on this machine, with nodes on paper; prints its kubeconfig
	@$(BIN)/python tools/kube/bed.py up

.PHONY: kube-down
kube-down: setup  ## end it and remove what it made
	@$(BIN)/python tools/kube/bed.py down

.PHONY: lock
lock: setup  ## resolve the lock files again
	@tools/lock

.PHONY: reference
reference: setup  ## write docs/reference/variables.md and nested argument_specs
	@$(BIN)/python tools/make_dashboards.py
	@$(BIN)/python tools/make_reference.py

.PHONY: collection
collection: setup  ## build the collection and the Python package into DIST (default: dist)
	@$(BIN)/ansible-galaxy collection build --force --output-path $(DIST) .
	@$(BIN)/uv build --quiet --no-build-isolation --out-dir $(DIST) .
	@ls $(DIST)

.PHONY: clean
clean:  ## remove the controller environment and caches (not a deployment: that is `make down`)
	rm -rf $(VENV) .collections .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
