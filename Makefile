# `make` lists the targets. Every one sets up what it needs by itself: Python >= 3.11 and make are enough.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
VENV := .venv
SETUP := $(VENV)/installed
CORES ?= all
# Blender's Python package is made for one version of Python and wants numpy < 2, so it has an environment of its own.
BLENDER := $(VENV)/blender/installed
BLENDER_PYTHON ?= $(firstword $(foreach p,python3.11 $(PYTHON),$(shell $(p) -c 'import sys; print("$(p)" if sys.version_info[:2] == (3, 11) else "")' 2>/dev/null)))
# PyTorch3D's build goes with one version of torch, so it has an environment of its own: torch and PyTorch3D are there,
# linked to CUDA 13 and computing on a CPU too; all else comes from .venv. Tested on Linux on x86-64.
PYTORCH3D := $(VENV)/pytorch3d/installed
PACKAGES := 'import sysconfig; print(sysconfig.get_path("purelib"))'
# Mitsuba 3 with the solver of its preconditioner for meshes, which python -m benchmarks.peers measures.
MITSUBA := $(VENV)/mitsuba/installed
# The Khronos glTF validator, for the tests of mesh.glb.
VALIDATOR := $(VENV)/gltf/installed
NPM := $(shell command -v npm)

# The commands of the rules are those of the environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
STORE := $(or $(MLFLOW_TRACKING_URI),sqlite:///results/mlflow.db)

.PHONY: help setup blender pytorch3d peers validator demo experiments check test test-pytorch3d ui benchmark schemas clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 16

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

pytorch3d: $(PYTORCH3D) ## install PyTorch3D, for render.backend: pytorch3d (nothing else needs it)

$(PYTORCH3D): | $(SETUP)
	@echo "installing PyTorch3D into $(@D): some minutes, five gigabytes"
	$(VENV)/bin/python -m venv $(@D)
	echo "import site; site.addsitedir('$$($(VENV)/bin/python -c $(PACKAGES))')" > "$$($(@D)/bin/python -c $(PACKAGES))/parent.pth"
	$(@D)/bin/pip install --quiet torch==2.11.0 easypytorch3d==0.7.9.post1
	$(@D)/bin/pip install --quiet --no-deps --editable .
	@touch $@

peers: $(PYTORCH3D) $(MITSUBA) ## install what python -m benchmarks.peers compares recon with

$(MITSUBA): | $(SETUP)
	$(VENV)/bin/python -m venv $(@D)
	echo "import site; site.addsitedir('$$($(VENV)/bin/python -c $(PACKAGES))')" > "$$($(@D)/bin/python -c $(PACKAGES))/parent.pth"
	$(@D)/bin/pip install --quiet mitsuba==3.9.1 cholespy==2.2.0
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

test-pytorch3d: $(PYTORCH3D) ## the tests of render.backend: pytorch3d, two minutes; `make test` leaves them out
	$(<D)/bin/python -m pytest tests/test_pytorch3d.py

ui: $(SETUP) ## open MLflow on the results: http://127.0.0.1:5000
	@mkdir -p results
	$(VENV)/bin/mlflow ui --backend-store-uri '$(STORE)' --host 127.0.0.1 --port 5000 --workers 1

benchmark: $(SETUP) ## the figures of README.md that need no training
	$(VENV)/bin/python -m benchmarks

schemas: $(SETUP) ## write workflow/schemas and the tables of config/README.md anew
	$(VENV)/bin/python -m recon.workflow

clean: ## remove the environment and caches; results/ stays
	rm -rf $(VENV) .snakemake .pytest_cache .mypy_cache .ruff_cache *.egg-info
