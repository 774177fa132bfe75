# Everything a newcomer needs: `make demo` shows the product at work, `make test` proves it.
# Both begin by making .venv with the locked dependencies, if it is not there yet.

BIN := .venv/bin

.PHONY: help setup demo test lint format lock bench clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.ready: requirements-dev.lock pyproject.toml scripts/setup
	@scripts/setup

setup: .venv/.ready  ## make .venv

demo: .venv/.ready  ## play the whole story on this machine: emulated Kirim and HubSpot, the real daemon
	@$(BIN)/crmsync demo

test: .venv/.ready  ## every test
	@$(BIN)/pytest

lint: .venv/.ready  ## style, types, import rules, spelling
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

format: .venv/.ready  ## put the code into shape
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: .venv/.ready  ## resolve the dependencies anew into the lock files
	@$(BIN)/python -m pip install --quiet uv
	@scripts/lock

bench: .venv/.ready  ## every benchmark, one after the other
	@for each in intake latency slow_crm idle backfill reconcile live segments; do $(BIN)/python benchmarks/$$each.py; done

clean:  ## forget .venv and caches
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
