# make demo   a board learns a machine that its model has never seen; report in build/demo
# make fuzz   libFuzzer on what reads foreign bytes, 10 minutes a target (FUZZ_SECONDS)
# make power  power cuts at every word of a life of 1,000 commits (POWER_COMMITS)
# make test   everything that is checked: style, layers, types, C++ with sanitizers, boards, emulators, Python
# Both set up what they need (host/setup.sh). PYTHON=python3.11 chooses the interpreter.
.PHONY: demo test fuzz power lint bench clean
SHELL := /bin/sh
SOURCES := pyproject.toml CMakeLists.txt host/setup.sh \
  $(shell find firmware host/native -name '*.cpp' -o -name '*.h' -o -name '*.def' -o -name '*.cddl' -o -name 'CMakeLists.txt') \
  $(shell find firmware/schema -name '*.py' -o -name '*.cmake')

demo: .venv/set-up-for-demo
	.venv/bin/kilotune demo

test: .venv/set-up-for-test
	.venv/bin/python tests/run.py

# Fuzz targets, each for FUZZ_SECONDS, and what of the parsers they reach; crashes in build/fuzz/crashes.
FUZZ_SECONDS ?= 600
fuzz: .venv/set-up-for-test
	.venv/bin/python tests/fuzz/run.py --coverage --seconds $(FUZZ_SECONDS)

# What `make test` does with 40 commits and sanitizers, at full length.
POWER_COMMITS ?= 1000
power: .venv/set-up-for-test
	PATH="$$PWD/.venv/bin:$$PATH" cmake --preset power && PATH="$$PWD/.venv/bin:$$PATH" cmake --build --preset power --target kilotune_power
	KILOTUNE_POWER_COMMITS=$(POWER_COMMITS) build/power/tests/kilotune_power

lint: .venv/set-up-for-test
	.venv/bin/python tests/run.py style layers types

# The figures of the README: minutes to an hour.
bench: .venv/set-up-for-test
	.venv/bin/python tests/bench/learning.py

.venv/set-up-for-test: $(SOURCES)
	host/setup.sh test
	@touch $@ .venv/set-up-for-demo

# What is set up for tests serves the demo too.
.venv/set-up-for-demo: $(SOURCES)
	host/setup.sh demo
	@touch $@

clean:
	rm -rf build .venv
