# A fresh machine needs python3 (3.11 or newer) and make; the rule for .venv fetches the rest.

PYTHON ?= python3
BIN := .venv/bin
GENERATED := certs kernels rewrite_rules/rulebook.json CERTIFICATES.md

.DEFAULT_GOAL := check
.PHONY: check test lint types walls regen regen-check bench fuzz-parsers ptx test-gpu clean
.NOTPARALLEL:

# setuptools first, from the same pins: the build then needs no throw-away environment of its own.
.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "moaproof needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq -c constraints.txt setuptools
	$(BIN)/python -m pip install -qq -c constraints.txt --no-build-isolation -e '.[dev,flint,judges,cluster]'
	touch $@

check: .venv/.stamp
	$(BIN)/moaproof check

test: lint types walls regen-check
	$(BIN)/pytest -n 2 --dist loadgroup

lint: .venv/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.stamp
	$(BIN)/mypy

# import-linter reads folders, so it is shown the packages under the names that they install as.
walls: .venv/.stamp
	rm -rf build/walls
	mkdir -p build/walls
	cp -R moaproof build/walls
	cp -R certs kernels rewrite_rules build/walls/moaproof
	cd build/walls && ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache --no-logo

regen: .venv/.stamp
	$(BIN)/python -m moaproof.derive.regen

# What is committed must be what the code derives: no changed byte, and no file that nobody added.
regen-check: regen
	git --no-pager diff --exit-code -- $(GENERATED)
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
	test -z "$$new" || { echo "not committed:" $$new >&2; exit 1; }

# Minutes, alone on the machine; JSON on stdout.
bench: .venv/.stamp
	$(BIN)/python benchmarks/attention.py

# Coverage-guided garbage for all that reads untrusted bytes; minutes, outside CI.
fuzz-parsers: .venv/.stamp
	$(BIN)/python -m pip install -qq atheris
	@for t in certificate kernel run trace rulebook manifest; do mkdir -p build/fuzz/$$t; \
	$(BIN)/python tests/fuzz/atheris_parsers.py $$t build/fuzz/$$t -max_total_time=120 -artifact_prefix=build/fuzz/ || exit 1; done

# The extra `cuda`, about 700 MB: NVIDIA's compiler, which needs no GPU.
.venv/.cuda: .venv/.stamp
	$(BIN)/python -m pip install -qq -c constraints.txt --no-build-isolation -e '.[cuda]'
	touch $@

# Every CUDA text compiled to PTX for three kinds of GPU, and looked through; minutes, without a GPU.
ptx: .venv/.stamp
	$(BIN)/python tests/ptx.py

# Needs a GPU, numba-cuda, and a PyTorch that has CUDA (constraints.txt names one without): `moaproof doctor`.
test-gpu: .venv/.stamp
	$(BIN)/pytest tests/gpu
	$(BIN)/python tests/gpu/campaign.py build/gpu

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
