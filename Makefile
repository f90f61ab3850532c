# `make` lists the targets. Every one sets up what it needs by itself: Python >= 3.11 and make are enough.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
VENV := .venv
SETUP := $(VENV)/installed
CORES ?= all
# Blender's Python package is made for one version of Python and wants numpy < 2, so it has an environment of its own.
BLENDER := $(VENV)/blender/installed
BLENDER_PYTHON ?= $(firstword $(foreach p,python3.11 $(PYTHON),$(shell $(p) -c 'import sys; print("$(p)" if sys.version_info[:2] == (3, 11) else "")' 2>/dev/null)))
# The Khronos glTF validator, for the tests of mesh.glb.
VALIDATOR := $(VENV)/gltf/installed
NPM := $(shell command -v npm)

# The commands of the rules are those of the environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
STORE := $(or $(MLFLOW_TRACKING_URI),sqlite:///results/mlflow.db)

.PHONY: help setup blender validator demo experiments check test ui benchmark schemas clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: $(SETUP) ## make .venv and install recon with pinned dependencies

$(SETUP): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'make: no Python >= 3.11 found; say where: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo "installing into $(VENV): some minutes, torch is large"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

blender: $(BLENDER) ## install Blender's Python package, for .blend files

$(BLENDER): | $(SETUP)
	@test -n '$(BLENDER_PYTHON)' || { echo 'make: the package bpy needs Python 3.11; any Blender does too: RECON_BLENDER=/path/to/blender' >&2; exit 1; }
	@echo "installing Blender into $(@D): a gigabyte"
	$(BLENDER_PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet bpy==5.0.1
	@touch $@

validator: $(VALIDATOR) ## install the Khronos glTF validator, for the tests

$(VALIDATOR): | $(SETUP)
	@test -n '$(NPM)' || { echo 'make: the glTF validator needs node and npm' >&2; exit 1; }
	npm install --silent --prefix $(@D) gltf-validator@2.0.0-dev.3.10
	@touch $@

demo: $(SETUP) ## extract the embedded scene, train, validate, report (config/config.yaml)
	$(VENV)/bin/snakemake --cores $(CORES)
	@echo 'The report: results/report/index.html   The mesh: recon view results/bunny/default   MLflow: make ui'

experiments: $(SETUP) ## run every row of config/experiments.tsv
	$(VENV)/bin/snakemake experiments --cores $(CORES)
	@echo 'The report: results/experiments/index.html   MLflow: make ui'

define style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/snakefmt --check .
	$(VENV)/bin/snakemake --lint
endef

check: $(SETUP) ## for every change, two minutes: style, types, floors, the fast tests
	$(style)
	$(VENV)/bin/pytest --numprocesses auto --dist loadfile -m 'not slow'

test: $(SETUP) $(if $(BLENDER_PYTHON),$(BLENDER)) $(if $(NPM),$(VALIDATOR)) ## everything, ten minutes: browser, Blender, Slurm and Snakemake too
	$(style)
	$(VENV)/bin/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

ui: $(SETUP) ## open MLflow on the results: http://127.0.0.1:5000
	@mkdir -p results
	$(VENV)/bin/mlflow ui --backend-store-uri '$(STORE)' --host 127.0.0.1 --port 5000 --workers 1

benchmark: $(SETUP) ## the figures of README.md that need no training
	$(VENV)/bin/python -m benchmarks

schemas: $(SETUP) ## write workflow/schemas and the tables of config/README.md anew
	$(VENV)/bin/python -m recon.workflow

clean: ## remove the environment and caches; results/ stays
	rm -rf $(VENV) .snakemake .pytest_cache .mypy_cache .ruff_cache *.egg-info
