# Two commands do everything on a fresh machine with Python 3.11, a C compiler and make:
# `make demo` and `make test`. The virtual environment is made on the way.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
STAMP := $(VENV)/.installed-dev
SITE := $(VENV)/.installed-docs
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
BIN := $(VENV)/bin
NATIVE := $(wildcard csrc/*.[ch] src/pbs_push/_native/*.pyx src/pbs_push/_native/*.pxd) setup.py

.PHONY: demo test lint native-test test-sanitized races fuzz fuzz-long coverage package-check \
    package-check-all elsewhere audit site man completions bench faults worlds load clean

demo: $(INSTALLED)
	$(BIN)/python -m pbs_push.demo

test: $(STAMP) native-test
	$(BIN)/pytest -q -n 3 --dist loadfile --cov --cov-report=

# Which lines and branches the last `make test` did not reach.
coverage: $(STAMP)
	$(BIN)/coverage report --fail-under=0

native-test:
	$(MAKE) -C csrc test

# Python tests over extension modules with sanitizers in them, which lie beside those of .venv.
SANITIZED := build/sanitized
RUNTIME = $(shell $(CC) -print-file-name=$(1))
RUN_SANITIZED = PYTHONPATH=$(<D)/site LD_PRELOAD=$(1) $(BIN)/pytest -q -p no:cacheprovider \
    --hypothesis-profile=ci

# Under the address and undefined-behaviour sanitizers. Python itself leaks at its end, so leaks are
# not looked for; the C tests do that. `make test-sanitized SANITIZED_TESTS=tests` is all of them.
SANITIZED_TESTS ?= tests/native tests/formats/test_blob.py tests/formats/test_chunk_files.py \
    tests/remote/test_session_chunks.py tests/push/test_encrypted_uploads.py \
    tests/push/test_end_to_end.py::test_a_whole_datastore_then_nothing_then_the_changes
test-sanitized: $(SANITIZED)/address,undefined/.built
	ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0 UBSAN_OPTIONS=print_stacktrace=1 \
	    PYTHONMALLOC=malloc \
	    $(call RUN_SANITIZED,$(call RUNTIME,libasan.so):$(call RUNTIME,libstdc++.so)) $(SANITIZED_TESTS)

# Under the thread sanitizer, and before that the C tests of what threads share. Python's own locks
# are known to it, and what Python does between them is not looked at.
RACES_TESTS ?= tests/push/test_end_to_end.py::test_two_pushes_at_once_in_one_process \
    tests/push/test_encrypted_uploads.py::test_groups_share_what_may_be_in_memory \
    tests/push/test_encrypted_uploads.py::test_no_more_is_in_memory_than_may_be
races: $(SANITIZED)/thread/.built
	$(MAKE) -C csrc races
	TSAN_OPTIONS=suppressions=csrc/tests/races.supp \
	    $(call RUN_SANITIZED,$(call RUNTIME,libtsan.so)) $(RACES_TESTS)

$(SANITIZED)/%/.built: $(STAMP)
	rm -rf $(@D) && mkdir -p $(@D)/source/csrc
	cp csrc/*.[ch] $(@D)/source/csrc
	cp -r setup.py pyproject.toml README.md LICENSE src $(@D)/source
	PBS_PUSH_SANITIZE=$* $(PIP) --no-deps --target $(@D)/site $(@D)/source
	touch $@

# Arbitrary input for the C that reads what others wrote: a minute for all targets together.
SECONDS ?= 3600
fuzz:
	$(MAKE) -C csrc/fuzz run SECONDS=60

fuzz-long:
	$(MAKE) -C csrc/fuzz run SECONDS=$(SECONDS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror csrc/*.[ch] csrc/tests/*.[ch] csrc/fuzz/*.[ch]
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest pbs_push._native --allowlist tests/stubtest.allow

# The sdist holds the repository, and the wheel works where nothing else is.
package-check: $(STAMP)
	$(BIN)/python .ci/check_package.py

# And is the same when it is built again, under each Python from 3.11 on that is here, with a push.
package-check-all: $(STAMP)
	$(BIN)/python .ci/check_package.py --all

# Where this machine is not: WHERE is python3.14, aarch64 or csrc-aarch64; .ci/elsewhere.py says more.
elsewhere:
	python3 .ci/elsewhere.py $(WHERE)

# Known vulnerabilities of what is installed; says so where they cannot be looked up.
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

# docs/ as a site in build/site; a dead link, a page that the navigation lacks, or something that a
# reader's browser would fetch from elsewhere ends it.
site: $(SITE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	! grep -rnE '(src|href)="(https?:)?//[^"]+\.(js|css|woff2?)"|src="(https?:)?//' build/site --include='*.html'

man: $(INSTALLED)
	$(BIN)/python docs/make_man.py

completions: $(INSTALLED)
	$(BIN)/python docs/make_completions.py

bench: $(STAMP)
	$(BIN)/pytest benchmarks --benchmark-only -q

# Every fault with every kind of request, and what else may befall a push: half an hour, or as much of
# it, by chance, as fits into SECONDS. TABLE is where the table goes besides.
faults: $(STAMP)
	$(BIN)/python -m tests.faults $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(TABLE),--table $(TABLE))

# A random life of two datastores, SECONDS long; SEED and STEPS repeat one.
worlds: $(STAMP)
	$(BIN)/python -m tests.faults.worlds --seconds $(or $(SECONDS),3600) \
	    $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS))

# Many groups at once; LOAD makes it smaller: make load LOAD='--groups 60 --snapshots 5'.
load: $(STAMP)
	$(BIN)/python benchmarks/load.py $(LOAD)

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

# What the site needs is large, and of no use to anything else.
$(SITE): $(INSTALLED)
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	    print(*project["optional-dependencies"]["docs"], sep="\n")' > $(VENV)/docs.txt
	$(PIP) --requirement $(VENV)/docs.txt
	touch $@

clean:
	rm -rf $(VENV) build csrc/build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
	find src -name '*.so' -delete
	rm -f src/pbs_push/_native/*.c
