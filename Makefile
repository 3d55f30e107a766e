# The words a person says to twinops. `make` alone lists them.
# Any job of the pipeline calls one of these, so that every job can be run by hand.

# The first Python that really runs and that we support (a pyenv shim may exist for one that does not run).
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
ENV ?= sandbox

# Nothing is written outside the clone: tools find their caches here and never the caller's AWS account.
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin
export PYTHONPATH :=

TESTS ?= tests
LINTED_PYTHON := module_utils library dispatch workflows edge sandbox pipeline page plugins tests inventories molecule

JOB := PYTHONPATH=module_utils:. python -m pipeline

NO_PYTHON = echo "PATH: expected a Python 3.11–3.13, got none that runs; install one or name it: make PYTHON=..." >&2; exit 1

.DEFAULT_GOAL := help
.PHONY: mutations page drift propose tag note lint-python lint-ansible lint-pipeline secrets setup-pipeline setup-secrets test-faults test-systemd faults help setup setup-dev demo up down clean status jupyter deploy plan test unit molecule lint lint-imports lint-specs schema format bench bench-cloud bench-dispatch bench-rollout bench-inference bench-mlops oracle drift-power lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup,$(NO_PYTHON))

setup-dev:
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --dev,$(NO_PYTHON))

setup-secrets:
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --secrets,$(NO_PYTHON))

setup-pipeline:
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --pipeline,$(NO_PYTHON))

demo: setup ## the main job on this machine, end to end, with a summary
	@python -m sandbox.demo

up: setup ## start the sandbox: AWS endpoint, mail, devices
	@python -m sandbox up

down: ## stop every process of the sandbox
	@if [ -x .venv/bin/python ]; then python -m sandbox down; else echo "nothing is set up, nothing runs"; fi

clean: down ## stop it and remove every trace: sandbox, environments, caches
	@for run in .sandbox*/run .sandbox*/*/run; do \
		if [ -d $$run ] && [ -x .venv/bin/python ]; then SANDBOX_HOME=$(CURDIR)/$${run%/run} python -m sandbox down; fi; done
	@rm -rf public .sandbox .sandbox-molecule .sandbox-test .sandbox-bench .sandbox-bench-cloud .sandbox-bench-dispatch .sandbox-bench-rollout .sandbox-pipeline .cache .venv build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .ansible .hypothesis
	@find . -name __pycache__ -not -path "./.git/*" -prune -exec rm -rf {} +
	@echo "removed: sandbox, environments, caches, build results"

status: setup ## what runs, which release each device has, the latest runs
	@python -m sandbox status

jupyter: setup ## print a link (valid for five minutes) to each twin's Jupyter
	@python -m sandbox jupyter

page: setup ## draw the status page, public/index.html, of ENV=sandbox or of several: ENV="staging production"
	@for env in $(ENV); do $(JOB) page $$env || true; done
	@python -m page --documents build/status --out public/index.html $(ENV)

plan: setup-secrets ## what a deployment of ENV=sandbox|staging|production would change; kept in build/plans
	@$(JOB) plan $(ENV)

drift: setup-secrets ## what differs from git in ENV, by mail as well; changes nothing
	@$(JOB) drift $(ENV)

propose: setup ## build the release of ENV, sign it with the keys that are here, leave it for the others to sign
	@$(JOB) propose $(ENV)

tag: setup ## name the commit that ENV runs
	@$(JOB) tag $(ENV)

note: setup ## tell the merge request what is planned for ENV, or what became of it
	@$(JOB) note $(ENV)

# With DIGEST, a plan was looked at: it is the one that `make plan` has left.
APPROVED = $(or $(PLAN),$(if $(DIGEST),build/plans/$(ENV).json))
deploy: $(if $(APPROVED),setup-secrets,setup) ## deploy ENV=sandbox|staging|production; [PLAN=build/plans/staging.json] [DIGEST=3f2a9c0d11e2] this plan only
	$(if $(APPROVED),@$(JOB) deploy $(ENV) --plan $(APPROVED) $(if $(DIGEST),--digest $(DIGEST)),ansible-playbook site.yml -l $(ENV))

test: setup-dev ## every test: unit, plan cases, devices, the sandbox end to end; [JUNIT=build/junit.xml] [COVERAGE=build/coverage.xml]
	@python -m pytest -n 2 --dist loadfile $(if $(JUNIT),--junitxml=$(JUNIT)) $(if $(COVERAGE),--cov --cov-report=term:skip-covered --cov-report=xml:$(COVERAGE)) $(TESTS)

unit: setup-dev ## the tests that need no sandbox
	@python -m pytest tests -m "not sandbox"

.PHONY: pipeline
pipeline: setup-dev ## execute .gitlab-ci.yml by a push, against a sandbox: stories about what it promises; 15 minutes; STORIES="drift"
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --pipeline,$(NO_PYTHON))
	@PYTHONPATH=module_utils:. python -m pipeline.stories $(STORIES)

molecule: setup-dev ## converge, repeat and verify each cloud role in an empty sandbox; SCENARIO="storage env" only these
	@python -m sandbox.molecule $(SCENARIO)

lint: lint-python lint-yaml lint-ansible lint-specs lint-pipeline secrets ## the same checks as the pipeline

lint-python: setup-dev
	ruff check $(LINTED_PYTHON)
	ruff format --check $(LINTED_PYTHON)
	mypy
	@$(MAKE) --no-print-directory lint-imports

.PHONY: lint-yaml
lint-yaml: setup-dev
	yamllint --strict .

lint-ansible: setup-dev
	ansible-lint --offline

lint-pipeline: setup-dev ## check .gitlab-ci.yml: GitLab's schema, jobs that are needed and not there, our own rules
	check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci .gitlab-ci.yml ci/*.yml
	@python -m pipeline.check

secrets: setup-secrets ## look for secrets in this commit and all before it
	@python -m pipeline.secrets

lint-specs: setup-dev ## check every workflow.yml, with the parser and against the published schema
	@PYTHONPATH=module_utils python -m twinops.spec_files
	check-jsonschema --check-metaschema workflows/workflow.schema.json
	check-jsonschema --schemafile workflows/workflow.schema.json workflows/*/workflow.yml

schema: setup-dev ## renew workflows/workflow.schema.json from the parser's constants
	@PYTHONPATH=module_utils python -m twinops.spec_schema > workflows/workflow.schema.json

lint-imports:
	PYTHONPATH=module_utils:workflows:edge:. .venv/bin/lint-imports

format: setup-dev ## put the Python code into its form
	ruff check --fix-only $(LINTED_PYTHON)
	ruff format $(LINTED_PYTHON)

test-faults: setup-dev ## kill a creation of the cloud at 20 random points; about six minutes
	@TWINOPS_KILLS=20 python -m pytest tests/sandbox/cloud/test_playbooks.py -k killed

faults: setup-dev ## break dispatch and releases in every way we can think of, and print what came of each; fifteen minutes
	@python -m pytest -m "faults or fault" tests/faults tests/edge tests/unit/toolbox/test_standby.py

mutations: setup-dev ## break each check of the verifier and each sync of the transaction, and print which test noticed; two minutes
	@python -m tests.edge.mutations $(WORDS)

test-systemd: setup-dev ## the roles of the devices on a Debian with a real systemd; root, and what docs/edge.md says
	@python -m pytest -m systemd tests/systemd

bench: setup-dev ## where the time, the AWS calls and the bytes of the demo go
	@python tests/bench/demo.py

bench-cloud: ## twinops and the incumbent collections side by side; BENCH="--workflows 1,10,50,100" (docs/bench.md)
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --peer,$(NO_PYTHON))
	@python -m tests.bench.cloud $(BENCH)

bench-dispatch: setup-dev ## from an event to the first line of its script, beside the floor (docs/bench.md); five minutes
	@python -m tests.bench.dispatch $(BENCH)

bench-mlops: ## the toolbox beside bare scipy and evidently: time, memory, report size (docs/bench.md); ten minutes
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --dev --oracle,$(NO_PYTHON))
	@python -m tests.bench.mlops $(BENCH)

oracle: ## ask evidently again what the toolbox's statistics are compared with (tests/oracle)
	@$(if $(PYTHON),$(PYTHON) -m sandbox.setup --dev --oracle,$(NO_PYTHON))
	@cd tests/oracle && ../../.cache/envs/oracle/bin/python record.py > evidently.json.part && mv evidently.json.part evidently.json

drift-power: setup-dev ## how often toolbox.drift alarms falsely, and what it finds: 300 random halves each, plots in docs/images
	@PYTHONPATH=workflows:module_utils python -m tests.bench.drift_power $(BENCH)
	@PYTHONPATH=workflows:module_utils python -m tests.bench.drift_example
	@PYTHONPATH=workflows:module_utils python -m tests.bench.drift_fleet_example

bench-inference: setup-dev ## the service of a device beside a bare onnxruntime loop, and an outage of S3 (docs/bench.md); five minutes
	@PYTHONPATH=module_utils python -m tests.bench.inference $(BENCH)

bench-rollout: setup-dev ## a model of 50 MB onto BENCH="--devices 50" devices, beside the usual playbook (docs/bench.md); ten minutes
	@PYTHONPATH=module_utils python -m tests.bench.rollout $(BENCH)

lock: setup-dev ## renew the lock files from the *.in files
	@for name in uv control dev peer oracle emulator jupyter jupyter1 device pipeline secrets page; do \
		.cache/tools/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
			--no-emit-find-links --no-emit-index-url locks/$$name.in -o locks/$$name.txt || exit 1; done
	@for file in workflows/requirements.in workflows/runner.in $(wildcard workflows/*/requirements.in); do \
		.cache/tools/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
			--no-emit-find-links --no-emit-index-url $$file -o $${file%.in}.txt || exit 1; done
