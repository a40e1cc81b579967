# Everything a newcomer needs. `make help` lists it. Variables: PYTHON (which Python), VENV (where its environment
# goes, .venv-<version> by default), ARGS (handed on: make test ARGS="-k gate").
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PYTHON VENV
# Hundreds of processes of ours start in a run of the suite; each would compile all of the source again.
unexport PYTHONDONTWRITEBYTECODE

RUNTIME := exec sh tools/with_env.sh runtime
DEV := exec sh tools/with_env.sh dev
SUITE := exec sh tools/with_env.sh dev -m tools.suite

.PHONY: help run setup test test-sqlite test-postgres lint bench mutants chaos chaos-ci deep screenshots fresh lock audit

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

run: ## set up, then start everything: Valkey, paper exchange, workers, web; Ctrl-C stops all of it
	@$(RUNTIME) manage.py up $(ARGS)

setup: ## the environment for development, from the locks
	@$(DEV)

test: test-sqlite test-postgres ## the whole suite, on SQLite and then on PostgreSQL

test-sqlite: ## the suite on SQLite
	@QUANTUM_TEST_DATABASE=sqlite; export QUANTUM_TEST_DATABASE; $(SUITE) $(ARGS)

test-postgres: ## the suite on PostgreSQL, without the browser tests
	@QUANTUM_TEST_DATABASE=postgres; export QUANTUM_TEST_DATABASE; $(SUITE) -m "not browser" $(ARGS)

lint: ## ruff, mypy --strict, the import contracts, the locks, a look for secrets
	@sh tools/lint.sh

bench: ## floor, poll baseline and product side by side; non-zero where a required figure is missed
	@$(DEV) -m bench $(ARGS)

mutants: ## takes guards out one by one; each must turn its test red
	@$(DEV) tools/mutants.py $(ARGS)

chaos: ## the whole product in a seeded storm, judged by an independent checker (SEED=n PLANS=40; no SEED: three)
	@$(DEV) -m tests.chaos --plans $(or $(PLANS),40) $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos-ci: ## three storms with seeds that follow from the commit, again where the machine stood still
	@$(DEV) -m tests.chaos --plans 30 --quiet

deep: ## 10,000 random sequences of the gate against its model, then 100 storms; goes on where it was stopped
	@$(DEV) tools/deep.py $(ARGS)

screenshots: ## the README's pictures: a demo of its own, its pages in Chromium, docs/pictures/*.png
	@$(DEV) tools/screenshots.py $(ARGS)

fresh: ## the two commands in a bare Debian made with debootstrap (root; by hand)
	@exec bash tools/fresh.sh $(ARGS)

lock: ## make both locks again from requirements*.txt (ARGS=--upgrade for newer releases)
	@sh tools/lock.sh $(ARGS)

audit: ## known vulnerabilities in the locked packages
	@sh tools/audit.sh
