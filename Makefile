# What a person does with this folder. `make` alone lists it.

# The first Python 3.11 on the path; name another by `make setup PYTHON=/path/to/python3.11`.
# (A name that is there may still not run: a version manager's stand-in answers for any version.)
IS_311 := -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	if $$name $(IS_311) 2>/dev/null; then echo $$name; exit; fi; done; echo python3)

BIN := .venv/bin
# Hands a value to the shell as one word, whatever is in it.
quoted = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := help
.PHONY: help setup ready programs demo test chaos check lock bench bench-clip bench-accuracy base-types bench-fairness bench-exports bench-api bench-year model clean

help: ## List what can be done here
	@echo "Clamor. What can be done here:"
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
		| sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'

setup: ## Make .venv with everything in it; once, or after an update
	@$(PYTHON) deploy/bootstrap.py

# What the other goals need. Says nothing if it is there.
ready:
	@$(PYTHON) deploy/bootstrap.py --quiet

demo: ready ## Listen to a recording, here and now: make demo [FILE=path]
	@$(BIN)/clamor demo $(if $(value FILE),$(call quoted,$(value FILE)))

# Programs that tests need besides Python packages: installed by apt-get as root, named otherwise.
programs: ready
	@$(BIN)/python -m tests.support.programs

# All of them use two cores and more: files beside each other, but for those that start, kill and time
# whole services, which come one after the other (tests/conftest.py).
ALL_TESTS := -n logical --maxprocesses 4 --no-loadscope-reorder

test: programs ## Run the tests, or some of them: make test [ARGS="-k span -x"]
	@$(BIN)/python -m pytest $(or $(ARGS),$(ALL_TESTS))

SEED ?= 1

chaos: programs ## Let everything fail, and see that nothing is lost: make chaos [SEED=1..20]
	@$(BIN)/python -m tests.chaos --seed $(call quoted,$(value SEED)) $(ARGS)

check: ready ## Lint, format, types, who imports whom, and the migrations
	@echo "==> Lint: ruff" && $(BIN)/ruff check .
	@echo "==> Format: ruff" && $(BIN)/ruff format --check .
	@echo "==> Types: mypy" && $(BIN)/mypy
	@echo "==> Who imports whom: import-linter" && $(BIN)/lint-imports
	@echo "==> Migrations: one head, and the same tables as the models" && $(BIN)/clamor migrate --check

# Not by `ready`: what is installed cannot fit a pyproject.toml that asks for something new.
lock: ## Resolve requirements.lock: make lock [ARGS=--upgrade]
	@test -x $(BIN)/uv || $(PYTHON) deploy/bootstrap.py
	@$(BIN)/python deploy/lock.py $(ARGS)

# Where the recordings are that accuracy and speed are measured on: esc10/, soundscapes/, everyday/
# and backgrounds/.
DATA ?= ../shared/data
# The weights of the backbone.
BACKBONE ?= ../shared/models/mn04_as_mAP_432.pt

bench: ready ## Benchmark audio analysis on one core: make bench [FILE=path]
	@$(BIN)/python -m tests.benchmarks.ear $(if $(value FILE),$(call quoted,$(value FILE))) \
		--data $(call quoted,$(value DATA)) --backbone $(call quoted,$(value BACKBONE))

bench-clip: programs ## Time one clip from upload to completed, with the backbone and without it
	@$(BIN)/python -m tests.benchmarks.clip --data $(call quoted,$(value DATA)) \
		--backbone $(call quoted,$(value BACKBONE)) $(ARGS)

# Models without each fold of ESC-10: `make model MODELS=folder` keeps them. Without them clips of
# ESC-10 and soundscapes are not measured.
MODELS ?=

bench-accuracy: ready ## Measure the product's answers into docs/accuracy.md: [DATA=folder] [MODELS=folder]
	@$(BIN)/python -m actors.training.evaluate --data $(call quoted,$(value DATA)) --report docs/accuracy.md \
		--backbone $(call quoted,$(value BACKBONE)) $(if $(value MODELS),--models $(call quoted,$(value MODELS)))
	@$(BIN)/python -m actors.training.few_shot --data $(call quoted,$(value DATA)) --report docs/accuracy.md \
		--backbone $(call quoted,$(value BACKBONE))

base-types: ready ## Train the base types over the backbone that ship: [DATA=folder]
	@$(BIN)/python -m actors.training.tagging --data $(call quoted,$(value DATA)) \
		--backbone $(call quoted,$(value BACKBONE)) --head actors/science/model/types.npz

bench-fairness: programs ## How long one recording waits behind a batch: make bench-fairness [FILES=500]
	@$(BIN)/python -m tests.benchmarks.fairness --files $(or $(FILES),500)

bench-exports: ready ## Memory and time of exports of a million events
	@$(BIN)/python -m tests.benchmarks.exports

bench-api: ready ## Requests a second, beside a twin of FastAPI and uvicorn
	@$(BIN)/python -m tests.benchmarks.api $(ARGS)

bench-year: ready ## What it takes with a year in the database: make bench-year [ARGS="--only lists"]
	@$(BIN)/python -m tests.benchmarks.year_figures $(ARGS)

model: ready ## Cross-validate and train the model that ships: make model [DATA=folder] [MODELS=folder]
	@$(BIN)/python -m actors.training.baseline --data $(call quoted,$(value DATA)) \
		--model actors/science/model/base.clamor $(if $(value MODELS),--keep $(call quoted,$(value MODELS)))

clean: ## Remove .venv and what the tools left behind
	@echo "Removing .venv and the tools' caches"
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
