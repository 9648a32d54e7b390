# The two main commands are `make demo` and `make test`. They need Python 3.11+ and make; everything else is installed into
# .venv. The make of macOS (3.81) works too.

VENV := .venv
BIN  := $(VENV)/bin
# The first of these that is 3.11 or newer creates the virtual environment; override: `make PYTHON=/path/to/python3 ...`.
PYTHON ?= python3 python3.13 python3.12 python3.11
ARGS ?=
# Processes that run tests, file by file. One more than two cores, as many tests wait for a broker. A process with tests on
# a real Kafka starts a broker of its own.
JOBS ?= 3

# Where a machine's environment forbids it, keep compiled modules nevertheless: each of the processes that run tests, and
# of the hundred commands that tests start, would compile all of them again, which doubles the time of `make test`.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint fmt typecheck bench chaos simulate constraints sbom audit-dependencies clean

help: ## Show this list
	@echo "make TARGET [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.server ## Install, then run `wattlog demo`: a balanced ledger from a simulated fleet (ARGS=--exit ends after the replay)
	@$(BIN)/wattlog demo $(ARGS)

# In the order of the folders: by default files with few tests come last, and those take longest.
pytest = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --no-fold-skipped

test: $(VENV)/.dev ## Run the quick tests, about 7 minutes on two cores; lists skipped and deselected tests with the reason
	@$(pytest) -m "not (kafka or browser or slow)" $(ARGS)

test-all: $(VENV)/.dev ## Run every test that this machine can run, at full size: real Kafka, browser, 20,000 simulated seeds
	@$(pytest) --exhaustive $(ARGS)

lint: $(VENV)/.dev ## Check style and the permitted imports between rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

fmt: $(VENV)/.dev ## Format the code, and apply automatic fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: $(VENV)/.dev ## Check types in all packages, strictly
	@$(BIN)/mypy

bench: $(VENV)/.dev ## Run the benchmarks in bench/ on this machine (one of them: ARGS="speed --repeats 3")
	@$(BIN)/python -m bench $(ARGS)

simulate: $(VENV)/.dev ## Inject faults into simulated runs, by seed (ARGS='--seeds 0-99999 --jobs 4'; ARGS='42 --trace' traces one)
	@$(BIN)/python -m tests.simulation $(ARGS)

chaos: $(VENV)/.dev ## Inject faults on a real Kafka, for about an hour and a half (ROUNDS=50: number of kills; ARGS=--help)
	@$(BIN)/python -m tests.kafka.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

constraints: build/tools/.made ## Write constraints.txt from the newest versions that fit together, and the hashes of their files to pins/
	@$(find_python) rm -rf build/pins && mkdir -p build && "$$python" -m venv build/pins
	@build/pins/bin/python -m pip install --quiet '.[agent,server,dev]'
	@{ sed -n '/^#/p' constraints.txt; build/pins/bin/python -m pip freeze --exclude wattlog; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/pins
	@$(pin) -c constraints.txt --extra agent pyproject.toml -o pins/agent.txt >/dev/null
	@$(pin) -c constraints.txt --extra server pyproject.toml -o pins/server.txt >/dev/null
	@$(pin) -c constraints.txt --extra server --extra dev pyproject.toml -o pins/dev.txt >/dev/null
	@$(pin) -c constraints.txt pins/build.in -o pins/build.txt >/dev/null
	@$(pin) pins/tools.in -o pins/tools.txt >/dev/null
	@git diff --stat -- constraints.txt pins

sbom: $(VENV)/.server build/tools/.made ## Write what is installed in .venv to build/sbom.json (CycloneDX), checked by its schema
	@build/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-format JSON --output-file build/sbom.json --validate $(BIN)/python
	@echo "build/sbom.json"

audit-dependencies: build/tools/.made ## Look for known weaknesses in the pinned versions; needs the network
	@build/tools/bin/pip-audit --disable-pip --require-hashes -r pins/dev.txt -r pins/build.txt $(ARGS)

clean: ## Remove build outputs and caches; the demo's data (.wattlog) stays
	rm -rf $(VENV) .cache build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Shell text that sets $$python, or exits with an error that names the missing program.
find_python = python=; for each in $(PYTHON); do \
	  if "$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$each; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Wattlog needs Python 3.11 or newer, and none of these is: $(PYTHON)." >&2; \
	  echo "Install one, then: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$python cannot create virtual environments. On Debian or Ubuntu: apt-get install" \
	    "$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; \
	fi;

# Pins for every platform and Python, with the hash of each file, from the index that pip is set to.
pin = index="$${PIP_INDEX_URL:-$$(build/tools/bin/python -m pip config get global.index-url 2>/dev/null)}"; \
	build/tools/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate --upgrade --python-version 3.11 \
	  --custom-compile-command "make constraints" $${index:+--default-index "$$index"}

# LOCKED=1, as in CI: pip accepts only files whose hashes are in pins/. Otherwise only versions are fixed, and the package
# is built with the newest hatchling.
LOCKED ?=
locked_file = pins/$(lastword $(subst $(comma), ,$(1))).txt
ifeq ($(LOCKED),)
pip_install = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(1)]'
else
pip_install = { $(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r pins/build.txt && \
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r $(locked_file) && \
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .; }
endif

# Quiet on success; on failure it shows pip's own output.
define install
	@echo "Installing wattlog[$(1)] into $(VENV): $(2) the first time only."
	@$(pip_install) >$(VENV)/install.log 2>&1 || { \
	  tail -n 40 $(VENV)/install.log >&2; echo "The installation failed; the full log is $(VENV)/install.log." >&2; exit 1; }
	@touch $@
endef

build/tools/.made: pins/tools.txt
	@$(find_python) rm -rf build/tools && mkdir -p build && "$$python" -m venv build/tools
	@build/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r pins/tools.txt
	@touch $@

$(VENV)/.made:
	@$(find_python) echo "Creating $(VENV) with $$("$$python" -V)."; "$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.server: pyproject.toml constraints.txt $(VENV)/.made
	$(call install,server,1 to 3 minutes)

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.made
	$(call install,server$(comma)dev,1 to 3 minutes)
	@touch $(VENV)/.server

comma := ,
