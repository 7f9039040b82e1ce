# Everything a newcomer needs. `make` alone prints this help.
PYTHON ?= python3
# A checkout that somebody else owns (two users of one machine) gets an environment of one's own.
VENV   ?= $(shell test -w . && echo .venv || echo "$${XDG_CACHE_HOME:-$$HOME/.cache}/walclock/venv")
BIN    := $(VENV)/bin
# More than the two cores that the suite is made for: half of its tests wait for processes.
JOBS   ?= 3

.DEFAULT_GOAL := help
.PHONY: help run test lint format snapshot bench-peers clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start a server, a worker and a demo job on an embedded PostgreSQL; Ctrl-C ends all of it
	@$(BIN)/scheduler run --demo

test: $(VENV)/.dev ## run all tests, each on a database of its own
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: $(VENV)/.dev ## let ruff format and repair what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

snapshot: $(VENV)/.dev ## write sql/snapshot.txt anew after a change of the SQL
	@$(BIN)/python -m tests.support.snapshot --write

bench-peers: $(VENV)/.run ## measure beside graphile-worker, pg-boss, …: PEERS="graphile pgboss" SIZE=small|full REPEAT=3
	@$(BIN)/python -m tests.bench.peers measure --anew --peers "$(if $(PEERS),walclock $(PEERS))" --size $(or $(SIZE),full) --repeat $(or $(REPEAT),$(if $(filter small,$(SIZE)),1,3))
	@$(BIN)/python -m tests.bench.peers report

clean: ## remove the environment and the caches; data is kept
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,http,speed]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.run
