# Builds the wheel, installs it into .venv beside the locked tools, and works on that: what is tested is what ships.
# Every step leaves a stamp in .venv and is done again only when what it was made from has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
# What tests and campaigns share is no package.
WITH_SUPPORT := PYTHONPATH=tests:tests/support:tests/campaigns:examples/plugin $(BIN)/python
COMPILE_LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
# Folders too, so that a deleted file counts as a change.
SOURCES := $(shell find reconciler schemas -name __pycache__ -prune -o -print) pyproject.toml README.md LICENSE

# Nothing from outside may stand in for what the venv holds, and the checkout may not stand in for the wheel.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONSAFEPATH = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-sandbox test test-kubernetes test-slurm test-ray contract lint bench bench-quick crash fuzz mutants mutants-random pages golden editors wheel lock clean FORCE

help:  ## print this list
	@sed -n 's/^\([a-z-]*\):.*## */\1|/p' Makefile | while IFS='|' read -r name text; do printf 'make %-16s%s\n' "$$name" "$$text"; done

demo: $(VENV)/.wheel  ## show the tool at work on real jobs of this machine, within 90 seconds: no account, no network but for the packages
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

demo-sandbox: $(VENV)/.wheel  ## show the tool at work against its own sandbox, which simulates a service
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/sandbox/demo.sh

test: $(VENV)/.wheel $(VENV)/.dev  ## run the tests against the installed wheel (ARGS='-k name' picks some)
	@$(BIN)/pytest -q -n auto --maxprocesses 8 --dist worksteal $(ARGS)

test-kubernetes: $(VENV)/.wheel $(VENV)/.dev  ## run the tests of the engine kubernetes on a real API server; gets it from Debian first, once
	@bash tests/kubernetes/install.sh >/dev/null
	@$(BIN)/pytest -q -n 2 --maxprocesses 2 --dist worksteal tests/kubernetes $(ARGS)

test-slurm: $(VENV)/.wheel $(VENV)/.dev  ## run the tests of the engine slurm on real controllers; gets Slurm from Debian first, once
	@bash tests/slurm/install.sh >/dev/null
	@$(BIN)/pytest -q -n 2 --maxprocesses 2 --dist worksteal tests/slurm $(ARGS)

test-ray: $(VENV)/.wheel $(VENV)/.dev  ## run the tests of the engine ray on a real head; installs Ray in a venv of its own first, once
	@bash tests/ray/install.sh >/dev/null
	@$(BIN)/pytest -q -o faulthandler_timeout=600 tests/ray $(ARGS)

contract: $(VENV)/.wheel $(VENV)/.dev  ## run the contract suites of engines and homes of state whole; `test` runs a sample
	@RECONCILER_CONTRACT=whole $(BIN)/pytest -q -o faulthandler_timeout=1200 -n auto --maxprocesses 8 --dist worksteal tests/contract examples/plugin/tests $(ARGS)
	@tests/kubernetes/install.sh >/dev/null
	@RECONCILER_CONTRACT=whole RECONCILER_KUBERNETES=required $(BIN)/pytest -q -o faulthandler_timeout=1200 -n 2 tests/kubernetes
	@$(WITH_SUPPORT) tests/campaigns/kubernetes_torture.py --rounds 150
	@tests/slurm/install.sh >/dev/null
	@RECONCILER_CONTRACT=whole $(BIN)/pytest -q -o faulthandler_timeout=1200 -n 2 tests/slurm
	@$(WITH_SUPPORT) tests/campaigns/slurm_torture.py --rounds 150
	@$(WITH_SUPPORT) tests/campaigns/slurm_torture.py --rounds 150 --accounting
	@tests/ray/install.sh >/dev/null
	@RECONCILER_CONTRACT=whole $(BIN)/pytest -q -o faulthandler_timeout=1200 tests/ray
	@$(WITH_SUPPORT) tests/campaigns/ray_torture.py --rounds 50

lint: $(VENV)/.dev  ## ruff, mypy and import-linter
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --diff .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >$(VENV)/imports.log || { cat $(VENV)/imports.log >&2; exit 1; }

bench: $(VENV)/.wheel $(VENV)/.dev  ## measure against floors and peers, into docs/performance.md; some twenty minutes
	@$(BIN)/python bench/run.py --write

bench-quick: $(VENV)/.wheel  ## the main figures, in under a minute
	@$(BIN)/python bench/run.py --quick

crash: $(VENV)/.wheel $(VENV)/.dev  ## break applies in every way, for hours: crash points, power loss, disks, signals, many hands, the model
	@$(WITH_SUPPORT) tests/campaigns/crash.py --all
	@$(WITH_SUPPORT) tests/campaigns/crash.py --twice --sample 60
	@$(WITH_SUPPORT) tests/campaigns/crash.py --faults --all
	@$(WITH_SUPPORT) tests/campaigns/crash.py --signals --all
	@$(WITH_SUPPORT) tests/campaigns/crash.py --cleaned --all
	@$(WITH_SUPPORT) tests/campaigns/mending.py
	@$(WITH_SUPPORT) tests/campaigns/git_crash.py --all
	@$(WITH_SUPPORT) tests/campaigns/git_crash.py --twice --sample 20
	@$(WITH_SUPPORT) tests/campaigns/git_races.py --all
	@$(WITH_SUPPORT) tests/campaigns/ci_ends.py --moments 200
	@$(WITH_SUPPORT) tests/campaigns/import_crash.py
	@$(WITH_SUPPORT) tests/campaigns/power_loss.py --histories 100000 --seed 1 --jobs 2
	@$(WITH_SUPPORT) tests/campaigns/many_hands.py --rounds 50
	@$(WITH_SUPPORT) tests/campaigns/scarce.py
	@$(WITH_SUPPORT) tests/campaigns/local_torture.py --rounds 1500 --jobs 2
	@$(WITH_SUPPORT) tests/campaigns/model.py --sequences 100000 --jobs 2

fuzz: $(VENV)/.wheel $(VENV)/.dev  ## feed each reader of untrusted bytes what atheris makes up (SECONDS=600 each)
	@$(WITH_SUPPORT) tests/campaigns/fuzz.py --seconds $(or $(SECONDS),600)

mutants: $(VENV)/.wheel $(VENV)/.dev  ## seed one bug at a time and see the test that is named for it fail
	@$(WITH_SUPPORT) tests/campaigns/mutants.py

mutants-random: $(VENV)/.wheel $(VENV)/.dev  ## seed bugs at random places, and print those that no test notices (SEED=1 COUNT=100)
	@$(WITH_SUPPORT) tests/campaigns/mutants_random.py --seed $(or $(SEED),1) --count $(or $(COUNT),100)

pages: $(VENV)/.wheel $(VENV)/.dev  ## run the commands of the pages, and write what they print into the pages
	@$(WITH_SUPPORT) tests/support/pages.py $(ARGS)

golden: $(VENV)/.wheel $(VENV)/.dev  ## write tests/golden anew, after a change of form that is meant
	@$(WITH_SUPPORT) tests/support/golden.py

editors: $(VENV)/.wheel  ## write the editors' schema of manifests anew, after a change of an engine's schema
	@$(BIN)/python -c "from reconciler.engines.registry import built_in; \
	from reconciler.manifest.engine_schemas import text_of, union; \
	open('schemas/manifest.schema.json', 'w', encoding='utf-8').write(text_of(union(built_in())))"

wheel: $(VENV)/.wheel  ## build dist/*.whl

# What is tested is what ships: the tools of development may keep a package back, and then the tool has the same version.
lock: $(VENV)/.dev  ## renew requirements/*.txt from pyproject.toml
	@$(COMPILE_LOCK) pyproject.toml --group dev -o requirements/dev.txt >/dev/null
	@$(COMPILE_LOCK) pyproject.toml -c requirements/dev.txt -o requirements/run.txt >/dev/null
	@$(COMPILE_LOCK) --group build -c requirements/dev.txt -o requirements/build.txt >/dev/null

clean:  ## remove all that make has made
	@rm -rf $(VENV) dist .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis

# The venv is made anew where PYTHON= names another interpreter than the one that it was made with.
ifneq ($(origin PYTHON),file)
ifneq ($(shell cat $(VENV)/.python 2>/dev/null),$(PYTHON))
$(VENV)/.python: FORCE
endif
endif

$(VENV)/.python:
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is not a Python 3.11 or later with venv; name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@printf '%s\n' '$(PYTHON)' >$@

$(VENV)/.run: $(VENV)/.python requirements/run.txt requirements/build.txt
	@echo "installing what the tool needs"
	@$(PIP) install --require-hashes -r requirements/run.txt -r requirements/build.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing the tools of development"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.wheel: $(VENV)/.run $(SOURCES)
	@echo "building and installing the wheel"
	@rm -rf dist
	@$(BIN)/python -m hatchling build -t wheel -d dist 2>$(VENV)/build.log || { cat $(VENV)/build.log >&2; exit 1; }
	@$(PIP) install --no-deps --force-reinstall dist/*.whl
	@touch $@
