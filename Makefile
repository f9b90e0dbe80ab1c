# make demo   a board learns a machine that its model has never seen; report in build/demo
# make fuzz   libFuzzer on what reads foreign bytes, 10 minutes a target (FUZZ_SECONDS)
# make test   everything that is checked: style, types, C++ with sanitizers, boards, emulators, Python
# Both set up what they need (host/setup.sh). PYTHON=python3.11 chooses the interpreter.
.PHONY: demo test fuzz lint bench clean
SHELL := /bin/sh
SOURCES := pyproject.toml CMakeLists.txt host/setup.sh \
  $(shell find firmware host/native -name '*.cpp' -o -name '*.h' -o -name '*.def' -o -name '*.cddl' -o -name 'CMakeLists.txt')

demo: .venv/set-up-for-demo
	.venv/bin/kilotune demo

test: .venv/set-up-for-test
	.venv/bin/python tests/run.py

# Fuzz targets, each for FUZZ_SECONDS, and what of the parsers they reach; crashes in build/fuzz/crashes.
FUZZ_SECONDS ?= 600
fuzz: .venv/set-up-for-test
	.venv/bin/python tests/fuzz/run.py --coverage --seconds $(FUZZ_SECONDS)

lint: .venv/set-up-for-test
	.venv/bin/python tests/run.py style types

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
