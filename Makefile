# Everything a person or a machine does here, one verb a line. `make help` lists them.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
CLAUDE := .cache/claude-code
CODEX := .cache/codex
AXE := .cache/axe
MUTANTS := .cache/mutants
BENCH := .cache/bench
HERE := not e2e and not browser and not faults and not postgresql
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run install dev format lint typecheck test cov cov-converters faults fuzz e2e browser screenshots postgresql mutants bench bench-quick soak docs site build release-check constraints check clean

help: ## what can be done
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: install ## serve on http://localhost:3456 (PORT=… for another), with all that it needs set up first
	$(BIN)/ccr-asgi serve $(if $(PORT),--port $(PORT))

install: $(VENV)/.installed ## the package in a virtual environment of its own

dev: $(VENV)/.dev ## the same, with what the tests and checks need

format: dev ## write the code in its one form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: dev ## form, style, and imports that only go down
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports

typecheck: dev ## mypy, strict
	$(BIN)/mypy

test: dev ## all tests but those with a suite of their own: the fault matrix, browser, Claude Code, Codex CLI
	$(BIN)/pytest -n auto -m "$(HERE)"

cov: cov-converters ## the same, with branch coverage and its limits
	$(BIN)/pytest -n auto -m "$(HERE)" --cov --cov-report=term

cov-converters: dev ## every branch of the converters, from their own tests
	$(BIN)/pytest -n auto tests/formats tests/wire \
		--cov=ccr_asgi.formats --cov=ccr_asgi.wire --cov-report=term --cov-fail-under=100

faults: dev ## all that can go wrong, against real servers: a table of fault, expected, seen (needs Chromium)
	$(BIN)/python -m tests.faults

fuzz: $(VENV)/.fuzz ## parser and converters, guided by coverage, for SECONDS=60 in all; what it finds becomes a fixture
	$(BIN)/python -m tests.fuzz $(or $(SECONDS),60)

e2e: dev $(CLAUDE)/.installed $(CODEX)/.installed ## the real Claude Code and the real Codex CLI against simulated providers
	CI_E2E_REQUIRED=1 $(BIN)/pytest -n 2 tests/e2e -m e2e

browser: dev $(AXE)/.installed ## the dashboard in a real Chromium (Debian: chromium, chromium-driver)
	CI_BROWSER_REQUIRED=1 $(BIN)/pytest -n 2 tests/browser -m browser

screenshots: dev $(AXE)/.installed ## the README's pictures, and every state of the dashboard to look at; ROWS=1000000 for a full one
	$(BIN)/python -m tests.browser.screenshots .cache/screenshots $(if $(ROWS),--rows $(ROWS))

postgresql: dev ## usage on a real PostgreSQL server, also of two servers behind nginx (Debian: postgresql, nginx)
	CI_POSTGRESQL_REQUIRED=1 $(BIN)/pytest -n 2 tests/postgresql -m postgresql

mutants: dev $(MUTANTS)/.installed ## which small changes of the converters no test notices; MODULES="…" for some
	nice -n 15 $(BIN)/python -m tests.mutation.run $(MUTANTS)/bin $(MODULES)

bench: dev ## what a request costs, beside nginx, bare Python and LiteLLM; how that grows; JSON in .cache/bench (an hour)
	$(BIN)/python -m benchmarks.proxies --litellm .cache/litellm --json $(BENCH)/proxies.json
	$(BIN)/python -m benchmarks.growth --json $(BENCH)/growth.json
	$(BIN)/python -m benchmarks.usage_queries --plans

bench-quick: dev ## the same in two minutes, without LiteLLM
	$(BIN)/python -m benchmarks.proxies --quick --json $(BENCH)/quick.json

soak: dev ## half an hour of mixed load (MINUTES=30): fails if memory, descriptors or times grow, or a row is missing
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30) --json $(BENCH)/soak.json

docs: dev ## the tests that hold the documentation to the code
	$(BIN)/pytest -n auto tests/docs

site: $(VENV)/.docs ## the documentation as a site, in .cache/site/site; a link that leads nowhere fails it
	$(BIN)/python -m tests.docs.site

build: dev ## wheel and sdist, in dist/
	$(BIN)/python -m build

release-check: $(VENV)/.release ## what a machine can say of a release: built, checked, installed by pip, pipx and uvx in clean folders
	$(BIN)/python -m tests.release

constraints: $(VENV)/.release ## constraints.txt anew: what the package was tried with, every file by its hash
	$(BIN)/python -m tests.release --constraints

check: lint typecheck cov site ## everything that must be green before a commit

clean: ## remove what was built, the virtual environment included
	rm -rf $(VENV) .cache dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "ccr-asgi needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

$(VENV)/.fuzz: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group fuzz
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@

$(VENV)/.release: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group release
	@touch $@

$(CLAUDE)/.installed:
	npm install --silent --no-fund --no-audit --force --prefix $(CLAUDE) @anthropic-ai/claude-code-linux-x64
	@touch $@

$(CODEX)/.installed:
	npm install --silent --no-fund --no-audit --prefix $(CODEX) @openai/codex
	@touch $@

$(AXE)/.installed:
	npm install --silent --no-fund --no-audit --prefix $(AXE) axe-core@4
	@touch $@

$(MUTANTS)/.installed: | $(VENV)/bin/python
	$(BIN)/python -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet cosmic-ray==8.7.0
	@touch $@
