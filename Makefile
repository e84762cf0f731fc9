# Everything here works on a fresh checkout: each target first makes .venv where it is missing (requirements/install.py).
#   PYTHON=/path/to/python3.12   which Python .venv is made of
#   KIND=cpu | cuda              which packages, instead of looking for an NVIDIA driver
#   DATA=folder                  texts for the benchmarks that read real ones

BIN := .venv/bin
ANY_PYTHON := $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell command -v $(p) 2>/dev/null)))
DATA ?=
export PYTHON KIND

.PHONY: help setup demo test lint format bench soak lock clean
help:
	@echo 'make demo    from nothing to a conversation with three characters, offline'
	@echo 'make test    lint and tests'
	@echo 'make lint    ruff (rules and format) and pyright'
	@echo 'make format  let ruff put right what it can'
	@echo 'make bench   every benchmark, DATA=folder for those that read real texts'
	@echo 'make soak    the tests that run for hours'
	@echo 'make lock    resolve requirements/lock-*.txt anew'
	@echo 'make clean   remove .venv, caches and what the demo made'

setup:
	@test -n '$(ANY_PYTHON)' || { echo 'set-up: no python3 on the PATH; install Python 3.11, 3.12 or 3.13 with venv' >&2; exit 2; }
	@$(ANY_PYTHON) requirements/install.py

demo: setup
	@$(BIN)/understudy demo

test: lint
	$(BIN)/python -m pytest -m 'not soak'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A benchmark that reads real texts takes their folder as its argument, and is left out without DATA.
bench: setup
	@for script in benchmarks/[a-z]*.py; do \
		folder=; \
		if grep -q 'add_argument("folder"' $$script; then \
			test -n '$(DATA)' || { echo "== $$script needs DATA=folder"; continue; }; \
			folder='$(DATA)'; \
		fi; \
		echo "== $$script"; $(BIN)/python $$script $$folder || echo "== $$script ended with $$?"; \
	done

soak: setup
	$(BIN)/python -m pytest -m soak --timeout 0

lock: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python requirements/lock.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis dist store
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
