# The steps that people and CI run. Each installs what it needs. Requires Python 3.11, JDK 17 and Maven.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPONENTS := api conf pipelines udfs rdma_shuffle jobs airflow_provider
export SPARK_LOCAL_IP ?= 127.0.0.1
export PYTHONUNBUFFERED := 1

.PHONY: help env demo demo-clean test test-long test-all test-rdma test-unit lint format docs docs-check pins wheel cluster-up cluster-down clean
.DEFAULT_GOAL := help

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(VENV)/.done  ## create .venv with everything the other targets need

$(VENV)/.done: pyproject.toml constraints.txt tools/hatch_build.py tools/prerequisites.sh
	@tools/prerequisites.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[demo,test,lint]'
	@touch $@

demo: env  ## score a week of flights on a real HDFS, from nothing; again: skips what is done
	$(BIN)/python -m firesteel.jobs.cli.demo

demo-clean:  ## remove what the demo keeps in the temporary directory
	rm -rf "$${TMPDIR:-/tmp}/firesteel-demo-$$(id -u)"

# A file runs as a whole in one of two processes, each with its own Spark, HDFS and models.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: env  ## the test suite without the tests marked `long`; CI runs it
	@tools/prerequisites.sh $(PYTHON) chromium
	$(BIN)/python -m pytest $(PARALLEL) -m "not long"

test-long: env  ## the tests marked `long`: minutes each, near to another test that is not
	@tools/prerequisites.sh $(PYTHON) chromium
	$(BIN)/python -m pytest $(PARALLEL) -m long

test-all: test test-long test-rdma  ## everything, before a release

test-rdma: env  ## the shuffle over real RDMA verbs, in a guest with Soft-RoCE; builds its kernel once (minutes)
	FIRESTEEL_RDMA=full $(BIN)/python -m pytest tests/rdma

test-unit: env  ## unit tests only: no JVM, seconds
	$(BIN)/python -m pytest tests/unit

lint: env  ## ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(addsuffix /src,$(COMPONENTS)) tools
	$(BIN)/python tools/imports.py

format: env  ## format and fix with ruff
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: env  ## write the generated reference
	$(BIN)/python tools/reference.py
	$(BIN)/python tools/faults.py

docs-check: env  ## hold the generated reference to the code
	$(BIN)/python tools/reference.py --check
	$(BIN)/python tools/faults.py --check

PINS := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header
pins: env  ## write the pins of the Airflow and of the older MLflow that tests use
	for name in airflow old_mlflow; do \
	  $(PINS) tests/support/$$name/requirements.in --output-file tests/support/$$name/constraints.txt || exit 1; done

wheel: env  ## build the wheels of firesteel and of its Airflow provider into dist/
	$(BIN)/uv build --quiet --wheel --out-dir dist
	$(BIN)/uv build --quiet --wheel --out-dir dist airflow_provider

TARGET ?= hdfs
cluster-up: env  ## a real embedded cluster until Ctrl-C: TARGET=hdfs, hdfs-ha, standalone or yarn
	$(BIN)/python -m firesteel.jobs.embedded up --target $(TARGET) --folder build/cluster-$(TARGET)

cluster-down: env  ## stop the cluster that cluster-up started: TARGET=hdfs, hdfs-ha, standalone or yarn
	$(BIN)/python -m firesteel.jobs.embedded down --target $(TARGET) --folder build/cluster-$(TARGET)

clean:  ## remove what the targets made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
