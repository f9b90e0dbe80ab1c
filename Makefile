# `make` names the targets. Each sets up what it needs (host/setup.sh); PYTHON=python3.11 chooses the interpreter.
.DEFAULT_GOAL := help
.PHONY: help demo check test coverage lint format fuzz power bench presets locks wheel sbom clean distclean
SHELL := /bin/sh
SOURCES := pyproject.toml CMakeLists.txt host/setup.sh $(wildcard host/locks/*.txt) host/kilotune/version.py \
  $(shell find firmware host/native -name '*.cpp' -o -name '*.h' -o -name '*.def' -o -name '*.cddl' -o -name 'CMakeLists.txt') \
  $(shell find firmware/schema -name '*.py' -o -name '*.cmake')
# The tools of .venv before those of the system.
WITH_TOOLS := PATH="$(CURDIR)/.venv/bin:$$PATH"

help: ## name the targets
	@sed -n 's/^\([a-z-]*\):.* ## /\1 /p' $(MAKEFILE_LIST) | while read -r target does; do printf 'make %-10s %s\n' "$$target" "$$does"; done

demo: .venv/set-up-for-demo ## a board learns a machine that its model has never seen: build/demo/report.html
	.venv/bin/kilotune demo

check: .venv/set-up-for-check ## quick: style, types, host tests, one emulated board; 3 minutes
	.venv/bin/python tests/run.py check

test: .venv/set-up-for-test ## all that is checked: also sanitizers, fuzzing, clang-tidy, every board; 15 minutes
	.venv/bin/python tests/run.py test

coverage: .venv/set-up-for-check ## which lines of the package the host's own tests run
	.venv/bin/python tests/run.py coverage

lint: .venv/set-up-for-check ## style, floors and types
	.venv/bin/python tests/run.py lint

format: .venv/set-up-for-check ## bring Python and C++ into the form that lint asks for
	.venv/bin/python tests/run.py format

FUZZ_SECONDS ?= 600
fuzz: .venv/set-up-for-test ## libFuzzer on what reads foreign bytes, FUZZ_SECONDS a target (600); crashes in build/fuzz/crashes
	.venv/bin/python tests/fuzz/run.py --coverage --seconds $(FUZZ_SECONDS) --jobs $$(nproc)

# What `make test` does with 40 commits and sanitizers, at full length.
POWER_COMMITS ?= 1000
power: .venv/set-up-for-test ## power cuts at every word of a life of POWER_COMMITS commits (1,000)
	$(WITH_TOOLS) cmake --preset power && $(WITH_TOOLS) cmake --build --preset power --target kilotune_power
	KILOTUNE_POWER_COMMITS=$(POWER_COMMITS) build/power/tests/kilotune_power

bench: .venv/set-up-for-test ## the learning table of the README; minutes to an hour
	.venv/bin/python tests/bench/learning.py

presets: ## CMakePresets.json for the boards that there are
	$${PYTHON:-python3} firmware/boards/presets.py

locks: ## the newest releases that pyproject.toml allows, with their hashes: host/locks
	host/locks/lock.sh

wheel: .venv/set-up-for-demo ## a wheel for this computer, in dist
	.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

sbom: .venv/set-up-for-check ## bills of materials (CycloneDX) of the wheel and of each board's firmware, in build/sbom
	$(WITH_TOOLS) .venv/bin/python host/sbom.py

# What is set up for more serves less, too.
.venv/set-up-for-test: $(SOURCES)
	host/setup.sh test
	@touch $@ .venv/set-up-for-check .venv/set-up-for-demo

.venv/set-up-for-check: $(SOURCES)
	host/setup.sh check
	@touch $@ .venv/set-up-for-demo

.venv/set-up-for-demo: $(SOURCES)
	host/setup.sh demo
	@touch $@

clean: ## remove what was built, and what checks have kept
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

distclean: clean ## remove .venv as well
	rm -rf .venv
