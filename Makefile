# Two commands do everything on a fresh machine with Python 3.11, a C compiler and make:
# `make demo` and `make test`. The virtual environment is made on the way.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin
NATIVE := $(wildcard csrc/*.[ch] src/pbs_push/_native/*.pyx) setup.py

.PHONY: demo test lint native-test bench clean

demo: $(STAMP)
	$(BIN)/python -m pbs_push.demo

test: $(STAMP) native-test
	$(BIN)/pytest -q

native-test:
	$(MAKE) -C csrc test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/pytest benchmarks --benchmark-only -q

$(STAMP): pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build csrc/build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find src -name '*.so' -delete
	rm -f src/pbs_push/_native/*.c
