# Two commands are enough to begin with: `make run` and `make test`. Needs Python 3.11 or newer, and nothing else.

PYTHON3 ?= python3
VENV := .venv
# The peers of the benchmarks have an environment of their own: .venv contains only what the locks of SkyAuth list.
BENCH := .venv-bench
# Half a gigabyte; `make bench SKYPILOT=` does without.
SKYPILOT ?= .venv-skypilot
# The generators of API clients. They need Java, Maven, Node and npm.
CLIENTS := .clients
GENERATOR := openapi-generator-cli:7.25.0
PYTHON := $(VENV)/bin/python
PACKAGES := $(filter-out tests,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))
COVERED := core rbac accounts authn revision integrations gateway skypilot
COVERAGE_AT_LEAST := 95
UV := uv==0.13.9
# helm and OAuth2 Proxy are built from their Go modules, which takes minutes once, and kept outside of this folder. tests/helm.py
# looks there. A second version of helm can be added: make deploy-tools HELM="4.3.1 3.22.0"
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/skyauth-tools
HELM := 4.3.1
OAUTH2_PROXY := 7.15.6
# The SQLite and the PostgreSQL run share it; loadgroup keeps tests that share a running server in one process.
PYTEST := -m pytest -n auto --dist loadgroup --no-loadscope-reorder
E2E := e2e or browser
EXAMPLES := long
# Runs two targets at the same time, because each often waits for what it starts; the output of the first follows at the end.
define at-once
log=$$(mktemp); $(MAKE) --no-print-directory $(1) >"$$log" 2>&1 & first=$$!; \
trap 'kill $$first; wait $$first; rm -f "$$log"; exit 130' INT TERM; \
$(MAKE) --no-print-directory $(2); second=$$?; \
wait $$first; code=$$?; cat "$$log"; rm -f "$$log"; exit $$((second || code))
endef

define go-install
command -v go >/dev/null || { echo "Building $(1) needs Go 1.26 or newer." >&2; exit 1; }; \
echo "Building $(1) into $(@D)"; GOBIN=$(@D) go install $(1)
endef

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_PYTHON_DOWNLOADS := never

.PHONY: help run test test-sqlite test-postgres test-e2e test-e2e-sqlite test-e2e-postgres test-long \
	test-long-sqlite test-long-postgres test-examples test-image image clients deploy-tools bench lint format lock clean

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|' 2>/dev/null \
	|| sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1   \2/p' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/run.installed ## Start SkyAuth, a gateway and an upstream (PORT=, GATEWAY_PORT=, UPSTREAM=http://host:port)
	@$(PYTHON) scripts/run.py

test: $(VENV)/dev.installed ## Run the tests on SQLite, with coverage, and those that use a database on a temporary PostgreSQL
	@$(call at-once,test-postgres,test-sqlite)

test-sqlite: $(VENV)/dev.installed ## Run the tests on SQLite and check the branch coverage
	$(PYTHON) $(PYTEST) -m "not ($(E2E))" --cov --cov-report= $(ARGS)
	@for package in $(COVERED); do \
		$(PYTHON) -m coverage report --include="$$package/*" --fail-under=$(COVERAGE_AT_LEAST) || exit 1; \
	done

test-postgres: $(VENV)/dev.installed ## Run the tests that use a database on a temporary PostgreSQL
	$(PYTHON) scripts/test_postgres.py $(PYTEST) -m "not ($(E2E))" $(ARGS)

test-e2e: $(VENV)/dev.installed ## Run the tests with real servers, proxies, clients and browsers, on both databases (10 minutes)
	@$(call at-once,test-e2e-postgres,test-e2e-sqlite)

test-e2e-sqlite: $(VENV)/dev.installed
	$(PYTHON) $(PYTEST) -m "$(E2E)" $(ARGS)

test-e2e-postgres: $(VENV)/dev.installed
	$(PYTHON) scripts/test_postgres.py $(PYTEST) -m "$(E2E)" $(ARGS)

test-long: $(VENV)/dev.installed ## Run the tests under load at full length, on both databases (EXAMPLES=40: even longer)
	@$(call at-once,test-long-postgres,test-long-sqlite)

# One after the other: each of them needs the processor.
test-long-sqlite: $(VENV)/dev.installed
	TEST_EXAMPLES=$(EXAMPLES) $(PYTHON) -m pytest -m long $(ARGS)

test-long-postgres: $(VENV)/dev.installed
	TEST_EXAMPLES=$(EXAMPLES) $(PYTHON) scripts/test_postgres.py -m pytest -m long $(ARGS)

test-examples: $(VENV)/dev.installed ## Run the property tests with many examples, on both databases (ARGS="-k schemathesis")
	TEST_EXAMPLES=$(EXAMPLES) $(PYTHON) $(PYTEST) -m hypothesis $(ARGS)
	TEST_EXAMPLES=$(EXAMPLES) $(PYTHON) scripts/test_postgres.py $(PYTEST) -m hypothesis $(ARGS)

test-image: $(VENV)/dev.installed ## Run the image and the systemd units on a new Debian (8 minutes; as root, with buildah and debootstrap)
	TEST_IMAGE=1 $(PYTHON) -m pytest -m e2e tests/deploy/test_image.py tests/deploy/test_systemd_boot.py $(ARGS)

image: ## Build the container image with docker, podman or buildah (IMAGE=skyauth, BASE=an image with Python)
	@deploy/container/build.sh

clients: $(CLIENTS)/installed ## Install the generators of API clients, for tests/api/test_generated_clients.py

deploy-tools: $(HELM:%=$(TOOLS)/helm-%/helm) $(TOOLS)/oauth2-proxy-$(OAUTH2_PROXY)/oauth2-proxy .venv-deploy/installed ## Build helm and OAuth2 Proxy (needs Go), for tests/deploy

bench: $(VENV)/dev.installed $(BENCH)/installed $(SKYPILOT:%=%/installed) ## Measure speed into docs/performance.md (ARGS=--quick)
	$(PYTHON) -m benchmarks.run --peers $(BENCH)/bin/python $(SKYPILOT:%=--skypilot %/bin/python) \
		--json var/bench.json $(if $(ARGS),$(ARGS),--write)

lint: $(VENV)/dev.installed ## Check style, spelling, types, import rules, templates, security and migrations
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/djlint --lint --quiet templates
	$(VENV)/bin/bandit --quiet --configfile pyproject.toml --recursive $(PACKAGES)
	data=$$(mktemp -d) && DATA_DIR=$$data $(PYTHON) manage.py makemigrations --check --dry-run; code=$$?; rm -r "$$data"; exit $$code

format: $(VENV)/dev.installed ## Format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock: $(VENV)/made ## Lock the versions that the requirements*.in files ask for, with hashes
	$(PYTHON) -m pip install --quiet $(UV)
	@for name in requirements requirements-gateway requirements-tracing requirements-dev requirements-bench requirements-skypilot requirements-deploy; do \
		$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url \
			--no-emit-find-links --custom-compile-command "make lock" $$name.in -o $$name.txt || exit 1; \
	done

clean: ## Remove what the tools made, .venv too; the data in var/ stays
	rm -rf $(VENV) $(BENCH) $(SKYPILOT) $(CLIENTS) .venv-deploy .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed is not installed again until a lock changes, and nothing is removed: `make run` and `make test` share .venv.
$(VENV)/made:
	@$(PYTHON3) -c 'import sys; sys.exit("SkyAuth needs Python 3.11 or newer: make PYTHON3=/path/to/python3" if sys.version_info < (3, 11) else 0)'
	@echo "Creating $(VENV)"
	@$(PYTHON3) -m venv $(VENV)
	@touch $@

$(VENV)/run.installed: $(VENV)/made requirements.txt requirements-gateway.txt
	@echo "Installing requirements.txt and requirements-gateway.txt"
	@$(PYTHON) -m pip install --quiet --no-input --require-hashes -r requirements.txt -r requirements-gateway.txt
	@touch $@

$(VENV)/dev.installed: $(VENV)/made requirements-dev.txt
	@echo "Installing requirements-dev.txt"
	@$(PYTHON) -m pip install --quiet --no-input --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/run.installed

.venv-%/installed: requirements-%.txt
	@echo "Installing $< into $(@D)"
	@test -x $(@D)/bin/python || $(PYTHON3) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --no-input --require-hashes -r $<
	@touch $@

$(TOOLS)/helm-%/helm:
	@$(call go-install,helm.sh/helm/v$(firstword $(subst ., ,$*))/cmd/helm@v$*)

$(TOOLS)/oauth2-proxy-%/oauth2-proxy:
	@$(call go-install,github.com/oauth2-proxy/oauth2-proxy/v$(firstword $(subst ., ,$*))@v$*)

# Maven and npm keep what they fetch in their own caches, outside of this folder.
$(CLIENTS)/installed: $(wildcard tests/api/clients/package*.json) tests/api/clients/openapi-generator-cli.sha256 Makefile
	@echo "Installing the generators of API clients into $(@D)"
	@rm -rf $(@D) && mkdir $(@D) && cp tests/api/clients/package*.json $(@D)
	@mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
		-Dartifact=org.openapitools:$(GENERATOR) -DoutputDirectory=$(CURDIR)/$(@D)
	@cd $(@D) && sha256sum --check --quiet ../tests/api/clients/openapi-generator-cli.sha256
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
