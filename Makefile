# What a newcomer types. Everything runs in .venv, which bin/setup makes at the first call and checks at each other.

PYTHON = python3
ARGS =
# One more than there are cores: a test waits for a job, a server or a clock half of its time.
JOBS = $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))
HEADER = "\# Exact versions of all that bin/setup installs: Python 3.10 to 3.13, Linux, x86-64 and arm64." \
         "\# Written by 'make lock' from pyproject.toml; no addresses, no hashes. Not to be edited by hand."
CACHES = build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.DEFAULT_GOAL := help
.PHONY: help quickstart ui test test-fast test-all clients test-matrix fix lint api docs screenshots crash-all fault-soak setup lock clean
# Another project's modules must not get before ours, and packages are installed uncompiled: set-up and first use compile what is used.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

help: ## list these commands
	@echo "prefect-sagemaker: each command first sets up what it needs in .venv"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-18s %s\n' "$$name" "$$text"; done

quickstart: ## run the example flow on this machine, without AWS (ARGS=--json, ARGS=--help)
	@$(PYTHON) bin/setup quickstart
	@.venv/bin/python -m flows.quickstart $(ARGS)

ui: ## look at its runs in Prefect's UI
	@$(PYTHON) bin/setup quickstart
	@.venv/bin/python -m flows.ui $(ARGS)

test: ## check the code, then run a journey of each promise and a sample of the rest (ARGS="-k name")
	@$(PYTHON) bin/setup dev
	@$(MAKE) --no-print-directory lint-code
	@$(MAKE) --no-print-directory --jobs=2 lint-types test-sample

.PHONY: test-sample # beside mypy, which takes half a minute of one core
test-sample:
	.venv/bin/python -m pytest --tier=sample -n $(JOBS) $(ARGS)

test-fast: ## run the tests that start no process, while you type (ARGS="-k name" goes to pytest)
	@$(PYTHON) bin/setup dev
	.venv/bin/python -m pytest --tier=fast -n $(JOBS) $(ARGS)

test-all: lint ## run everything there is, in parts; again: what has not passed (ARGS=--list, ARGS="docs races")
	.venv/bin/python tests/run_all.py $(ARGS)

clients: ## train with the SageMaker SDKs and simple-sagemaker, each in an environment of its own (ARGS="-k v2")
	@$(PYTHON) bin/setup dev
	.venv/bin/python -m pytest -n0 tests/clients $(ARGS)

test-matrix: ## run a part of the tests on each Python and each Prefect that is supported (ARGS=--help)
	@$(PYTHON) bin/setup dev
	.venv/bin/python tests/run_matrix.py $(ARGS)

fix: ## format the code, and repair what ruff can repair
	@$(PYTHON) bin/setup dev
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

lint: ## check code and prose: ruff, mypy, import-linter, deptry, codespell
	@$(PYTHON) bin/setup dev
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-types lint-code

.PHONY: lint-types lint-code # side by side, since mypy takes as long as all others
lint-types:
	.venv/bin/mypy

lint-code:
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports --no-logo
	.venv/bin/mypy bin/setup
	.venv/bin/deptry --no-ansi .
	.venv/bin/codespell
	.venv/bin/python tests/check_prose.py

api: ## compare the public names with those of the last release
	@$(PYTHON) bin/setup dev
	@.venv/bin/python tests/check_api.py

docs: ## build the documentation into build/docs
	@$(PYTHON) bin/setup dev
	.venv/bin/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "built. Next: look at build/docs/index.html."

screenshots: ## take the pictures of the documentation anew, in Chromium, into docs/images
	@$(PYTHON) bin/setup dev
	@.venv/bin/python docs/screenshots.py

crash-all: ## kill a chain of three tasks at each of its AWS calls (ARGS=--quick, ARGS=--help)
	@$(PYTHON) bin/setup dev
	@mkdir -p build
	@.venv/bin/python tests/exactly_once/crash_all.py --json build/crash.json --markdown build/crash.md $(ARGS)

fault-soak: ## run flows under a thousand random mixtures of faults (ARGS=--help)
	@$(PYTHON) bin/setup dev
	@mkdir -p build
	@.venv/bin/python tests/exactly_once/fault_soak.py --markdown build/faults.md $(ARGS)

setup: ## make .venv with all that any command here needs
	@$(PYTHON) bin/setup dev
	@echo ".venv is ready. Next: make quickstart, make test."

lock: ## write constraints.txt again, with the newest versions that pyproject.toml allows (by uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	@{ printf '%s\n' $(HEADER); uv pip compile --quiet --universal --no-python-downloads --python-version 3.10 \
		--extra dev --extra training-toolkit --no-emit-package prefect-sagemaker --no-header --no-annotate pyproject.toml; } > .constraints.new \
		|| { rm -f .constraints.new; exit 1; }
	@mv .constraints.new constraints.txt
	@git --no-pager diff --stat -- constraints.txt
	@echo "constraints.txt is written. Next: make test."

clean: ## remove what these commands made here, except what the flows made (.local)
	@$(PYTHON) bin/setup remove
	@rm -rf $(CACHES)
	@find . -path './.*' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
	@echo "clean. Next: make setup."
