# What a person does in this repository. Each target installs what it needs, says so, and is quick when nothing is
# missing.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help up down test test-fast test-vm test-kubernetes soak mutate bench lock packages env

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

up: packages env ## start Stelae on this machine, build the guestbook and deploy it
	@scripts/on-path
	@cd examples/guestbook && $(AS_ROOT) "$(CURDIR)/.venv/bin/stelae" up

down: env ## stop everything that Stelae started
	@cd examples/guestbook && $(AS_ROOT) "$(CURDIR)/.venv/bin/stelae" down

test: ## run all checks and tests, on real parts
	@scripts/system-packages test
	@scripts/environment
	@scripts/test

test-fast: env ## run the checks and the tests that need no root and no network
	@scripts/test fast

test-vm: ## run Stelae on an emulated Debian 12 with systemd, through a power cut and a reboot (ARGS=contract for a part)
	@scripts/system-packages vm
	@scripts/environment
	@$(AS_ROOT) "$(CURDIR)/.venv/bin/python" tests/vm/run.py $(ARGS)
	@$(if $(ARGS),,$(AS_ROOT) "$(CURDIR)/.venv/bin/python" -m pytest -q tests/machines)

test-kubernetes: ## run the tests on a cluster that is there: STELAE_TEST_KUBECONFIG names it (ARGS=tests/kubernetes/test_contract.py)
	@scripts/system-packages test
	@scripts/environment
	@scripts/test-kubernetes $(ARGS)

soak: ## run what takes hours: every crash point, every fault of the record, 20,000 lives (ARGS="-k simulation")
	@scripts/system-packages test
	@scripts/environment
	@scripts/soak $(ARGS)

mutate: env ## change the core in one place at a time: a test must fail each time (MODULE=strategies for one module)
	@.venv/bin/python tests/mutation/run.py $(MODULE)

bench: ## measure Stelae beside what would be used instead
	@scripts/system-packages bench
	@scripts/environment
	@$(AS_ROOT) "$(CURDIR)/.venv/bin/python" -m bench.run

lock: ## write the lock files again (scripts/lock --upgrade takes newer versions)
	@scripts/lock

packages:
	@scripts/system-packages

env:
	@scripts/environment

AS_ROOT = $(if $(filter-out 0,$(shell id -u)),sudo --)
