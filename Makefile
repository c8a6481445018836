# Each target sets up what it needs, in .venv; each works twice in a row.
# the first that works: 3.11 or newer, able to make environments
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := test,lint,slurm,hats

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(STAMP) ## the environment alone, in .venv

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch --editable '.[$(EXTRAS)]'
	@touch $(STAMP)

demo: $(STAMP) ## each domain at demonstration size, minutes on two cores; ends with where the reports lie
	$(BIN)/sciencevae run --all --out runs

# tests/vae compiles models by the dozen: in a process of its own, what other tests leave in memory is no matter
test: $(STAMP) ## the tests
	$(BIN)/python -m pytest --ignore=tests/vae
	$(BIN)/python -m pytest tests/vae

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sciencevae domains

bench: $(STAMP) ## every benchmark, each printing one table beside its peers
	PYTHON=$(PYTHON) benchmarks/peers/setup
	$(BIN)/python -m benchmarks
