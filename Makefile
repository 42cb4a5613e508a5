# One command for each thing that a developer does; `make help` lists them. What starts the lab needs root.
.DEFAULT_GOAL := help
.SUFFIXES:
PYTHON_OF_VENV := .venv/bin/python
# Tests and demo start many processes, which would each compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Install what is missing: packages, .venv, the guests' kernel
	@setup/all.sh

rights:
	@setup/rights.sh "$(firstword $(MAKECMDGOALS))"

demo: rights lab ## The main jobs on a real guest: spawned, attached to, migrated, destroyed
	@$(PYTHON_OF_VENV) -m tests.lab.demo

test: rights setup ## Run all tests, on real libvirtd, QEMU, Redis, RabbitMQ and PostgreSQL
	@.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGUMENTS)

crash: rights setup ## Every crash row, or with CRASH_ARGUMENTS a part: "--budget 10" (minutes), "--row NAME", "--soak"
	@.venv/bin/pytest tests/crash --crash=all $(CRASH_ARGUMENTS)

bench: rights lab ## Measure, and compare with bare libvirt
	@$(PYTHON_OF_VENV) -m tests.bench

bench-jobs: rights setup ## Measure the journal beside bare Celery, DBOS and TaskFlow
	@setup/rivals.sh
	@$(PYTHON_OF_VENV) -m tests.bench_jobs $(BENCH_JOBS_ARGUMENTS)

environment:
	@setup/all.sh environment

lab:
	@setup/all.sh demo

check: environment ## Format, lint, types, rooms, migrations, dependencies
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON_OF_VENV) -m tests.check_migrations
	.venv/bin/deptry . --per-rule-ignores 'DEP002=psycopg|redis' # SQLAlchemy and kombu load these by name

lock: environment ## Pin the newest allowed requirements, with their hashes
	@setup/lock.sh

clean: ## Remove what setup and the tests made in and around the checkout; packages stay
	@[ ! -x $(PYTHON_OF_VENV) ] || $(PYTHON_OF_VENV) -m tests.lab.mount_points
	rm -rf .venv .lab .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup rights demo test crash bench bench-jobs environment lab check lock clean
