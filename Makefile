# Each environment below is installed once, into $(VENV), and again only when pyproject.toml has changed.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := $(shell find fastconv -name '*.py')

# What `make check-dist` checks with.
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: help setup demo test test-full test-cuda fuzz lint format bench gpu-report performance docs dist check-dist constraints clean

help:
	@echo "make demo       install the package and run its demonstration"
	@echo "make test       the test suite, without what takes long"
	@echo "make test-full  every test, with every optional dependency"
	@echo "make test-cuda  the CUDA kernels, compiled and executed without a GPU"
	@echo "make fuzz       drawn calls against the definitions (ARGS='--seconds 3600 --seed 1')"
	@echo "make gpu-report tests and times on this machine's GPU, in gpu-report.json"
	@echo "make lint       ruff and mypy"
	@echo "make format     let ruff rewrite what it can"
	@echo "make bench      benchmarks against PyTorch, SciPy and OpenCV (ARGS='--suite resnet50')"
	@echo "make performance  the measured tables and pictures of README.md again"
	@echo "make docs       the documentation, in site/index.html"
	@echo "make dist       the sdist, the wheel and an SBOM, in dist/"
	@echo "make check-dist these in clean environments (PYTHONS='python3.12')"
	@echo "make constraints the exact versions of what the tests need, in constraints.txt"
	@echo "make setup      the environment for working on the package"
	@echo "make clean      remove the environment and everything generated"

setup: $(VENV)/.stamp-test $(VENV)/.stamp-lint

demo: $(VENV)/.stamp-demo
	$(BIN)/fastconv demo $(ARGS)

test: $(VENV)/.stamp-test
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow and not gpu and not cuda" $(ARGS)

test-full: $(VENV)/.stamp-test-full
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# The wheels of NVIDIA's compilers take a gigabyte.
test-cuda: $(VENV)/.stamp-cuda
	$(BIN)/python -m pytest -n $(JOBS) -m "cuda and not slow" tests/cuda tests/cuda_tools $(ARGS)

fuzz: $(VENV)/.stamp-test
	$(BIN)/python -m fastconv.testing.fuzz $(ARGS)

gpu-report: $(VENV)/.stamp-gpu
	$(BIN)/python bench/gpu_report.py

lint: $(VENV)/.stamp-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.stamp-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.stamp-bench
	$(BIN)/python -m fastconv bench $(ARGS)

performance: $(VENV)/.stamp-bench
	$(BIN)/python -m fastconv bench --threads 1,2 --json bench/results/headline.json --plot bench/results/headline.svg
	for suite in savings kernel-size; do \
		$(BIN)/python -m fastconv bench --suite $$suite --json bench/results/$$suite.json --plot bench/results/$$suite.svg || exit; \
	done
	$(BIN)/python bench/readme.py

# Without the notice about another site generator.
docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html; to search in it: $(BIN)/python -m http.server -d site"

dist: $(VENV)/.stamp-release
	$(BIN)/python release/dist.py

check-dist: $(VENV)/.stamp-release
	$(BIN)/python release/check.py $(PYTHONS)

constraints: $(BIN)/python
	$(BIN)/python release/pin.py

clean:
	rm -rf $(VENV) build dist site htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A copy of the package, as a user has it. It takes the place of an editable install, whose stamps are removed.
$(VENV)/.stamp-demo: pyproject.toml $(SOURCES) | $(BIN)/python
	rm -f $(VENV)/.stamp-*
	$(PIP) ".[demo]"
	touch $@

$(VENV)/.stamp-test: EXTRAS = test
$(VENV)/.stamp-test-full: EXTRAS = all,bench,test
$(VENV)/.stamp-lint: EXTRAS = lint
$(VENV)/.stamp-bench: EXTRAS = bench
$(VENV)/.stamp-cuda: EXTRAS = test,cuda-dev
$(VENV)/.stamp-gpu: EXTRAS = test,cuda,torch
$(VENV)/.stamp-docs: EXTRAS = docs
$(VENV)/.stamp-release: EXTRAS = release

$(VENV)/.stamp-test $(VENV)/.stamp-test-full $(VENV)/.stamp-lint $(VENV)/.stamp-bench $(VENV)/.stamp-cuda $(VENV)/.stamp-gpu $(VENV)/.stamp-docs $(VENV)/.stamp-release: pyproject.toml | $(BIN)/python
	rm -f $(VENV)/.stamp-demo
	$(PIP) -e ".[$(EXTRAS)]"
	touch $@
