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

.PHONY: help
help:  ## this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP)  ## controller environment from the lock file, collection linked

$(STAMP): requirements/bootstrap.lock requirements/controller.lock pyproject.toml
	@tools/setup "$(PYTHON)" "$(VENV)"
	@touch $@
