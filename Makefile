# Two commands do everything on a fresh machine with Python 3.11, a C compiler and make:
# `make demo` and `make test`. The virtual environment is made on the way.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
STAMP := $(VENV)/.installed-dev
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
BIN := $(VENV)/bin
NATIVE := $(wildcard csrc/*.[ch] src/pbs_push/_native/*.pyx src/pbs_push/_native/*.pxd) setup.py

.PHONY: demo test lint native-test coverage package-check bench clean

demo: $(INSTALLED)
	$(BIN)/python -m pbs_push.demo

test: $(STAMP) native-test
	$(BIN)/pytest -q --cov --cov-report=

# Which lines and branches the last `make test` did not reach.
coverage: $(STAMP)
	$(BIN)/coverage report --fail-under=0

native-test:
	$(MAKE) -C csrc test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror csrc/*.[ch] csrc/tests/*.[ch]
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest pbs_push._native --allowlist tests/stubtest.allow

# The sdist holds the repository, and the wheel works where nothing else is.
package-check: $(STAMP)
	$(BIN)/python .ci/check_package.py

bench: $(STAMP)
	$(BIN)/pytest benchmarks --benchmark-only -q

$(INSTALLED): pyproject.toml $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

# What tests and lint need comes on top, without building anew: the demonstration does without.
$(STAMP): $(INSTALLED)
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*project["optional-dependencies"]["dev"], sep="\n")' > $(VENV)/dev.txt
	$(PIP) --requirement $(VENV)/dev.txt
	touch $@

clean:
	rm -rf $(VENV) build csrc/build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
	find src -name '*.so' -delete
	rm -f src/pbs_push/_native/*.c
