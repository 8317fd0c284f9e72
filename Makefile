# Every verb that a person or CI runs on this checkout. `make help` lists them; each prepares .venv first if it must.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8080
BIN := .venv/bin
STAMP := .venv/.ready
CLIENT := jobsvc/http/client/jobsvc.js
DASHBOARD := jobsvc/http/dashboard/app.js
REACT := examples/react/dist/index.html
# One process of tests a core, and no more than four: each has browsers and services of its own.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(( n < 4 ? n : 4 )))
CODE := jobsvc projections tests docs $(wildcard bench)
# Coverage may not fall below 100 % of branches here. Elsewhere it is reported, not gated.
GATED := jobsvc/domain/**,projections/**
# Beside the aiohttp of the lock, found before it where PYTHONPATH says so.
LOWEST := .venv/lowest
LOWEST_AIOHTTP := $(shell sed -n 's/^ *"aiohttp>=\([0-9.]*\)",$$/\1/p' pyproject.toml)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) $(CLIENT) $(DASHBOARD)  ## Make .venv with everything of the locks, and build what the browser gets

$(CLIENT): $(wildcard clients/browser/src/*) clients/browser/build.js clients/browser/package-lock.json
	@scripts/build-web client clients/browser

$(DASHBOARD): $(wildcard clients/dashboard/src/*) clients/dashboard/build.js clients/dashboard/package-lock.json
	@scripts/build-web dashboard clients/dashboard

$(STAMP): requirements-dev.lock pyproject.toml
	@echo "setup: preparing .venv with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "setup: Python 3.11 or newer is needed, this is " + sys.version)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setup: installing what requirements-dev.lock names, checked by hash"
	@# The lock is whole: pip is not to look for anything itself, or a newer release of an extra would stop it.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@echo "setup: installing jobsvc from this checkout, editable"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: ready"

$(REACT): $(CLIENT) $(wildcard examples/react/src/*) examples/react/index.html examples/react/package-lock.json
	@echo "examples/react: installing and building"
	@cd examples/react && npm ci --silent --no-audit --no-fund && npm run --silent build -- --logLevel warn

run: setup  ## Serve with the dashboard on jobsvc.db (PORT=8080)
	$(BIN)/jobsvc serve --database jobsvc.db --port $(PORT)

demo: setup  ## Run the main job once on real input and print its stream and counts
	$(BIN)/jobsvc demo

test: setup chromium $(REACT)  ## Run all tests but the soak; domain and projections must be covered branch by branch
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --cov --cov-report=
	$(BIN)/coverage report --include='$(GATED)' --fail-under=100

check: lint types layers test  ## Run lint, types, layers and tests

bench: setup  ## Measure, and print each figure with its unit
	$(BIN)/python -m bench

bench-stream: setup  ## Measure streams against others that send server-sent events
	$(BIN)/python -m bench.streams

soak: setup lowest  ## Run the long suites
	$(BIN)/python -m pytest -m soak

lowest: setup  ## Run the tests of the hand-over and of heads that we write with the lowest aiohttp that pyproject.toml allows
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(LOWEST) 'aiohttp==$(LOWEST_AIOHTTP)'
	PYTHONPATH=$(LOWEST) $(BIN)/python -c 'import aiohttp; assert aiohttp.__file__.startswith("$(CURDIR)/$(LOWEST)"); print("lowest: aiohttp", aiohttp.__version__)'
	PYTHONPATH=$(LOWEST) $(BIN)/python -m pytest tests/streams/test_hand_over.py tests/http/test_reply.py

guards: setup  ## Take out each line that guards against a race, and see its test fail
	$(BIN)/python -m tests.guards

chromium:  ## See that there is a Chromium for the tests in the browser, and install one if there is none
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
		echo "chromium: installing it, for the tests in the browser"; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; \
		else $(BIN)/playwright install chromium; fi; }

screenshots: setup chromium $(REACT)  ## Write the pictures of the dashboard anew, to docs/images
	$(BIN)/python -m tests.browser.screenshots

lint: setup  ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup  ## Rewrite the code in its format, and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: setup  ## Check types
	$(BIN)/mypy $(CODE)

layers: setup  ## Check that imports point down
	$(BIN)/lint-imports

cover: setup  ## Show the coverage of the last make test, file by file, in htmlcov/
	$(BIN)/coverage report
	$(BIN)/coverage html --quiet

docs: setup  ## Write the generated parts of the documentation anew
	$(BIN)/python docs/generate.py

lock: setup  ## Bring both locks up to the newest versions that pyproject.toml allows
	$(LOCK) --upgrade --all-extras --group dev --group bench --output-file requirements-dev.lock
	$(LOCK) --constraints requirements-dev.lock --output-file requirements.lock

clean:  ## Remove .venv, caches and everything built
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov build dist
	find jobsvc projections tests $(wildcard bench) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help screenshots chromium setup run demo test check bench bench-stream soak guards lint format types layers cover docs lock clean
