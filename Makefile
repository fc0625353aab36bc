# Commands for developers. `make` alone lists them.

# The first Python 3.11 on the path; choose another with `make setup PYTHON=/path/to/python3.11`.
# (Each is run to check its version: a version manager's shim exists for versions it cannot run.)
IS_311 := -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	if $$name $(IS_311) 2>/dev/null; then echo $$name; exit; fi; done; echo python3)

BIN := .venv/bin
# Quotes any value as one word for the shell.
quoted = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := help
.PHONY: help setup ready programs demo test test-unit chaos check references docs docs-serve lock bench bench-clip bench-accuracy base-types bench-fairness bench-exports bench-api bench-peers bench-capacity bench-year bench-migrations bench-retention model clean

help: ## List these commands
	@echo "Clamor commands:"
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
		| sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'

setup: ## Create .venv with all dependencies; once, or after an update
	@$(PYTHON) deploy/bootstrap.py

# Checked by the other targets; silent if .venv is up to date.
ready:
	@$(PYTHON) deploy/bootstrap.py --quiet

demo: ready ## Process a recording on this machine: make demo [FILE=path]
	@$(BIN)/clamor demo $(if $(value FILE),$(call quoted,$(value FILE)))

# Programs that tests need besides Python packages: apt-get installs them as root, else they are listed.
programs: ready
	@$(BIN)/python -m tests.support.programs

# All of them use two cores and more: files beside each other, but for those that start, kill and time
# whole services, which come one after the other (tests/conftest.py).
ALL_TESTS := -n logical --maxprocesses 4 --no-loadscope-reorder

test: programs ## Run the tests, or some of them: make test [ARGS="-k span -x"]
	@$(BIN)/python -m pytest $(or $(ARGS),$(ALL_TESTS))

test-unit: ready ## Run the tests that need no server
	@$(BIN)/python -m pytest tests/unit -q $(ALL_TESTS) $(ARGS)

SEED ?= 1

chaos: programs ## Inject faults, and verify that no work is lost: make chaos [SEED=1..20]
	@$(BIN)/python -m tests.chaos --seed $(call quoted,$(value SEED)) $(ARGS)

check: ready ## Check lint, format, types, wording, documents, import rules and migrations
	@echo "==> Lint: ruff" && $(BIN)/ruff check .
	@echo "==> Format: ruff" && $(BIN)/ruff format --check .
	@echo "==> Types: mypy" && $(BIN)/mypy
	@echo "==> Words that make prose hard to read" && $(BIN)/python deploy/wording.py
	@echo "==> Spelling: codespell" && $(BIN)/codespell
	@echo "==> References: settings, commands, requests, tables" && $(BIN)/python -m deploy.docs.references --check
	@echo "==> Changelog: names of the fragments" && $(FRAGMENTS)
	@echo "==> Site: pages, links, nothing from another host" && $(MKDOCS) build --strict $(SITE)
	@echo "==> Imports: import-linter" && $(BIN)/lint-imports
	@echo "==> Migrations: one head, and the same schema as the models" \
		&& env -u DATABASE_URL -u CLAMOR_MIGRATION_URL $(BIN)/clamor migrate --check
	@echo "==> Migrations: nothing that would stop the traffic" && $(LINT_MIGRATIONS)

LINT_MIGRATIONS := mkdir -p build && $(BIN)/clamor migrate --sql > build/migrations.sql \
	&& $(BIN)/squawk build/migrations.sql && $(BIN)/python -m deploy.migration_lint build/migrations.sql

FRAGMENTS := out=$$($(BIN)/towncrier build --draft --version next 2>&1) || { echo "$$out"; exit 1; }

# With --strict a link or an anchor that leads nowhere is an error. The variable silences the theme's
# notice about its successor.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
SITE := --config-file deploy/docs/mkdocs.yml

references: ready ## Write the references in docs/ from the code: settings, commands, requests, tables
	@$(BIN)/python -m deploy.docs.references

docs: references ## Build the site of the documents
	@$(MKDOCS) build --strict $(SITE)
	@echo "The pages are in build/docs: open build/docs/index.html, or make docs-serve for search"

docs-serve: ready ## Show the site at http://127.0.0.1:8001, built again at each change
	@$(MKDOCS) serve --dev-addr 127.0.0.1:8001 $(SITE)

# Without `ready`, which fails when pyproject.toml has a new requirement.
lock: ## Resolve requirements.lock: make lock [ARGS=--upgrade]
	@test -x $(BIN)/uv || $(PYTHON) deploy/bootstrap.py
	@$(BIN)/python deploy/lock.py $(ARGS)

# The folder of recordings for measurements of accuracy and speed: esc10/, soundscapes/, everyday/
# and backgrounds/.
DATA ?= ../shared/data
# The weights of the backbone.
BACKBONE ?= ../shared/models/mn04_as_mAP_432.pt

bench: ready ## Benchmark audio analysis on one core: make bench [FILE=path]
	@$(BIN)/python -m tests.benchmarks.ear $(if $(value FILE),$(call quoted,$(value FILE))) \
		--data $(call quoted,$(value DATA)) --backbone $(call quoted,$(value BACKBONE))

bench-clip: programs ## Time one clip from upload to completion, with and without the backbone
	@$(BIN)/python -m tests.benchmarks.clip --data $(call quoted,$(value DATA)) \
		--backbone $(call quoted,$(value BACKBONE)) $(ARGS)

# Models trained without each fold of ESC-10, which `make model MODELS=folder` saves. Without them,
# clips of ESC-10 and soundscapes are not measured.
MODELS ?=

bench-accuracy: ready ## Measure accuracy and update docs/accuracy.md: [DATA=folder] [MODELS=folder]
	@$(BIN)/python -m actors.training.shipped_model.accuracy_report --data $(call quoted,$(value DATA)) --report docs/accuracy.md \
		--backbone $(call quoted,$(value BACKBONE)) $(if $(value MODELS),--models $(call quoted,$(value MODELS)))
	@$(BIN)/python -m actors.training.shipped_model.few_shot --data $(call quoted,$(value DATA)) --report docs/accuracy.md \
		--backbone $(call quoted,$(value BACKBONE))

base-types: ready ## Train the shipped base types on the backbone: [DATA=folder]
	@$(BIN)/python -m actors.training.shipped_model.base_types --data $(call quoted,$(value DATA)) \
		--backbone $(call quoted,$(value BACKBONE)) --head actors/science/model/types.npz

bench-fairness: programs ## Measure how long one recording waits behind a batch: make bench-fairness [FILES=500]
	@$(BIN)/python -m tests.benchmarks.fairness --files $(or $(FILES),500)

bench-exports: ready ## Measure memory and time of exports of a million events
	@$(BIN)/python -m tests.benchmarks.exports

bench-api: ready ## Compare requests per second with an equivalent on FastAPI and uvicorn
	@$(BIN)/python -m tests.benchmarks.api $(ARGS)

bench-peers: programs ## Compare with Celery programs that do the same: [ARGS="--only clips --json out.json"]
	@$(BIN)/python -m tests.benchmarks.peers $(ARGS)

bench-capacity: programs ## Measure what an hour of audio costs each part: [ARGS="--hours 0.2"]
	@$(BIN)/python -m tests.benchmarks.capacity $(ARGS)

bench-year: ready ## Measure queries and jobs with a year of data: make bench-year [ARGS="--only lists"]
	@$(BIN)/python -m tests.benchmarks.year_figures $(ARGS)

bench-migrations: ready ## Measure how long readers and writers wait for steps: [ARGS="--sessions 100000"]
	@$(BIN)/python -m tests.benchmarks.migrations $(ARGS)

bench-retention: ready ## Measure the removal of a month, by DELETE and as a partition: [ARGS="--rows 100000"]
	@$(BIN)/python -m tests.benchmarks.retention $(ARGS)

model: ready ## Cross-validate and train the shipped model: make model [DATA=folder] [MODELS=folder]
	@$(BIN)/python -m actors.training.shipped_model.build --data $(call quoted,$(value DATA)) \
		--model actors/science/model/base.clamor $(if $(value MODELS),--keep $(call quoted,$(value MODELS)))
	@$(BIN)/python -m actors.training.shipped_model.gate --data $(call quoted,$(value DATA)) \
		--gate actors/science/model/gate.clamor

clean: ## Remove .venv and the caches of tools
	@echo "Removing .venv and the tools' caches"
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
