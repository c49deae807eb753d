# Set-up, demo and tests. On a fresh machine with Python 3.11+ and make: `make demo` and `make test`, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINOR := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := $(wildcard constraints/py$(MINOR).txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q $(addprefix -c ,$(CONSTRAINTS))
GEODISTK_VENV ?= .venv-geodistk
export SOFTLABELS_GEODISTK_PYTHON ?= $(CURDIR)/$(GEODISTK_VENV)/bin/python
LOWEST_VENV ?= .venv-lowest
NNUNET_VENV ?= .venv-nnunet
OLDEST_NNUNET := 2.6.0
NNUNET_PIP = $(NNUNET_VENV)/bin/python -m pip --disable-pip-version-check install -q $(addprefix -c ,$(CONSTRAINTS))
CORES ?= $(shell nproc)

.PHONY: changelog compare demo docs test test-lowest test-wheel test-nnunet test-nnunet-newest test-nnunet-oldest test-faults test-browser test-slurm check bench-geodesic bench-geodesic-cuda bench-loader bench-case clean-demo help
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

$(VENV)/.base: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "softlabels needs Python 3.11 or newer, got " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install -q -U pip
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	@echo "Installing the pipeline into $(VENV) (once)"
	$(PIP) -e '.[workflow,demo]'
	@touch $@

$(VENV)/.compare: $(VENV)/.demo
	@echo "Installing torch and MONAI's metrics into $(VENV) (once)"
	$(PIP) -e '.[workflow,demo,loader,monai]'
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@echo "Installing test dependencies, torch among them, into $(VENV) (once)"
	$(PIP) -e '.[workflow,demo,loader,monai,nnunet,cuda,dev,docs]'
	@touch $@

# FastGeodis is built against the installed torch, which an isolated build would not find.
$(VENV)/.baselines: $(VENV)/.test
	@echo "Building FastGeodis for the parity tests (once; some minutes)"
	$(PIP) 'setuptools<81' wheel
	$(PIP) --no-build-isolation FastGeodis==1.0.5 || echo "FastGeodis was not built: its parity tests will say so and be skipped"
	@touch $@

# GeodisTK needs numpy<2, hence an environment of its own.
$(GEODISTK_VENV)/.ready: envs/geodistk-requirements.txt
	@echo "Building GeodisTK into $(GEODISTK_VENV) for the parity tests (once)"
	$(PYTHON) -m venv $(GEODISTK_VENV)
	$(GEODISTK_VENV)/bin/python -m pip --disable-pip-version-check install -q -U pip
	$(GEODISTK_VENV)/bin/python -m pip --disable-pip-version-check install -q numpy==1.26.4 'setuptools<81' wheel
	$(GEODISTK_VENV)/bin/python -m pip --disable-pip-version-check install -q --no-build-isolation -r envs/geodistk-requirements.txt \
		|| echo "GeodisTK was not built: its parity tests will say so and be skipped"
	@touch $@

# torch first, in the version that is tested everywhere; nnunetv2 then takes it as it is. torchvision must fit the build of
# torch, which the one of the package index need not; only networks of nnU-Net that are not used here want it. The oldest
# nnU-Net is laid over the newest, because both run with the same other packages.
$(NNUNET_VENV)/.ready: envs/nnunet-requirements.txt pyproject.toml $(CONSTRAINTS)
	@echo "Installing the newest and the oldest supported nnU-Net into $(NNUNET_VENV) (once)"
	$(PYTHON) -m venv $(NNUNET_VENV)
	$(NNUNET_VENV)/bin/python -m pip --disable-pip-version-check install -q -U pip
	$(NNUNET_PIP) -e '.[loader]'
	$(NNUNET_PIP) -e '.[workflow,loader,nnunet]' -r envs/nnunet-requirements.txt
	$(NNUNET_VENV)/bin/python -m pip --disable-pip-version-check uninstall -q -y torchvision
	$(NNUNET_PIP) --no-deps --upgrade --target $(NNUNET_VENV)/oldest nnunetv2==$(OLDEST_NNUNET)
	@touch $@

demo: $(VENV)/.demo  ## the main job on a real brain: picture, table, index (under 90 s after the install)
	$(BIN)/python examples/icbm152.py --cores $(CORES)

compare: $(VENV)/.compare  ## train a small network on each soft label and compare them (10 minutes on two cores after the install)
	PYTHONPATH=examples/compare $(BIN)/python -m comparison slabs demo/compare/cases
	$(BIN)/snakemake --snakefile examples/compare/Snakefile --cores $(CORES)
	@cat demo/compare/comparison.md
	@echo "Picture: demo/compare/comparison.png; every number: demo/compare/comparison.tsv"

test: $(VENV)/.baselines $(GEODISTK_VENV)/.ready  ## all tests that need neither a GPU nor Slurm
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

test-wheel: $(VENV)/.test  ## a job from the built wheel, in an empty environment without the checkout
	SOFTLABELS_TEST_WHEEL=fresh $(BIN)/python -m pytest -q tests/packaging

$(LOWEST_VENV)/.ready: pyproject.toml constraints/lowest.txt
	@echo "Installing the lowest versions that are allowed into $(LOWEST_VENV) (once)"
	$(PYTHON) -m venv $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check install -q -U pip
	$(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check install -q -c constraints/lowest.txt -e '.[workflow,demo,loader,nnunet,dev]'
	@touch $@

# Old versions warn about new ones of others, so warnings are no errors here.
test-lowest: $(LOWEST_VENV)/.ready  ## the tests on the lowest allowed versions (Python 3.11)
	$(LOWEST_VENV)/bin/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile -o filterwarnings=default

test-faults: $(VENV)/.test  ## the failure tests in their full form
	$(BIN)/python -m pytest -q tests/faults tests/inputs/test_faults.py --fault-rounds full

test-browser: $(VENV)/.test  ## the viewer in a real Chromium, which apt installs if it is missing (needs root)
	bash tests/browser/run.sh $(BIN)

test-nnunet: $(NNUNET_VENV)/.ready  ## nnU-Net trains on soft labels, newest and oldest supported version; Lightning, ignite
	$(MAKE) -j2 test-nnunet-newest test-nnunet-oldest

# Side by side: much of a training is spent in a single process.
test-nnunet-newest: $(NNUNET_VENV)/.ready  ## the newest version alone, with Lightning and ignite
	$(NNUNET_VENV)/bin/python -m pytest -q tests/nnunet tests/training/test_frameworks.py

test-nnunet-oldest: $(NNUNET_VENV)/.ready  ## the oldest supported version alone
	PYTHONPATH=$(CURDIR)/$(NNUNET_VENV)/oldest $(NNUNET_VENV)/bin/python -m pytest -q -p no:cacheprovider tests/nnunet \
		-k "test_loader or test_against or test_install or (predicts and (1-3d or 1-2d))"

test-slurm: $(VENV)/.test  ## the workflow on a real Slurm on this machine (needs root and apt)
	bash tests/slurm/run.sh $(BIN)

check: $(VENV)/.test  ## lint, format, types, import layers, workflow lint, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/python examples/icbm152.py --only-case
	$(BIN)/snakemake --lint
	$(BIN)/python -m softlabels reference --check

docs: $(VENV)/.test  ## the documentation site in docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

changelog: $(VENV)/.test  ## show the changelog fragments; WRITE=1 moves them into CHANGELOG.md
	$(BIN)/towncrier build $(if $(WRITE),--yes,--draft)

bench-geodesic: $(VENV)/.baselines $(GEODISTK_VENV)/.ready  ## compare the engine with third-party engines
	$(BIN)/python benchmarks/geodesic.py

bench-geodesic-cuda: $(VENV)/.baselines  ## the CUDA engine, on a machine with a GPU
	$(BIN)/python benchmarks/geodesic_cuda.py --write

bench-loader: $(NNUNET_VENV)/.ready  ## CPU time of a patch, beside nnU-Net and MONAI
	$(NNUNET_VENV)/bin/python benchmarks/loader.py

bench-case: $(VENV)/.baselines $(GEODISTK_VENV)/.ready  ## compare a whole case with the steps of GeoLS' script
	$(BIN)/python benchmarks/whole_case.py

clean-demo:  ## delete the results and the store of the demo
	rm -rf demo
