# make demo    see it work: an embedded server, real flights, loaded four times
# make test    lint and all tests; installs what the tests need where it may
# make lint    ruff, mypy, sqlfluff, and whether generated files are current
# make chaos   200 faults strike loads: nothing is lost, duplicated or left behind
# make bench   speed and memory against hand-written SQL
# make build   generate sqlkit/dist and the synchronous API, then the wheel

PYTHON ?= python3
# One server a PostgreSQL version is shared by all workers, so a few go far.
WORKERS ?= logical
PYTEST_ARGS ?=
CHAOS_ARGS ?=

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint chaos bench build clean services

help:
	@sed -n 's/^# make /make /p' Makefile

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "sqlkit needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "no venv module: apt install python3-venv" >&2; exit 1; }

# One stamp for each set of extras, so that the demo does not wait for what only tests need.
.venv/.demo: pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) --editable '.[server,demo]'
	@touch $@

# MySQL's driver is compiled; without a compiler its tests say what is missing.
.venv/.test: pyproject.toml | .venv/bin/python services
	$(PIP_INSTALL) --editable '.[server,demo,test,lint]'
	@$(PIP_INSTALL) --editable '.[mysql]' || echo "mysqlclient cannot be built here" >&2
	@touch $@

.venv/.bench: pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) --editable '.[server,bench]'
	@$(PIP_INSTALL) --editable '.[mysql]' || echo "mysqlclient cannot be built here" >&2
	@touch $@

demo: .venv/.demo
	@$(BIN)/sqlkit demo

services:
	@tests/install-services.sh

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 0 --disable-progress-bar sql sqlkit/demo.sql tests/sql
	$(BIN)/python -m sqlkit.build --check

test: services .venv/.test lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(PYTEST_ARGS)

chaos: .venv/.test services
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

bench: .venv/.bench
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.refresh --share 0.01 --share 1

build: .venv/.test
	$(BIN)/python -m sqlkit.build
	$(PIP_INSTALL) build
	$(BIN)/python -m build --wheel --outdir build/wheel .

clean:
	rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache
