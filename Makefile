# What a user types; the pipeline itself is dvc.yaml. `make` alone lists the targets.

# The first Python on the PATH that TensorFlow's pinned release is built for. Status 3: another version.
SUPPORTED := import sys; sys.exit(3 * (not (3, 11) <= sys.version_info < (3, 14)))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
endif

UV := .venv/bin/uv
VENV := .venv/.installed
DEVELOPMENT := .venv/.installed-dev
APP := .venv/.installed-app
CLUSTER := .venv/.installed-cluster
# Where `make app` listens; `:=`, since some shells export HOST, the machine's name.
HOST := 127.0.0.1
PORT := 8000
# As they were typed: for make the $5 of cost$5.png would be a variable, and the shell, if they stood
# in the recipes, would run what is between backticks. It gets them from its environment.
override A := $(value A)
override B := $(value B)
override IMAGE := $(value IMAGE)
override HOST := $(value HOST)
override PORT := $(value PORT)
override OPTIONS := $(value OPTIONS)
export A B IMAGE HOST PORT OPTIONS

# As after `. .venv/bin/activate`: the stages' `python` is the one that the packages are for.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONHOME PYTHONPATH

.PHONY: help quickstart repro verify study experiments reader compare predict app check test lint lock
help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

quickstart: $(VENV)  ## the whole pipeline on 5,000 embedded digits, no downloads
	@python -m tools.quickstart

repro: $(VENV)  ## dvc repro: full MNIST, only what has changed
	@python -m tools.parameters
	@python -m tools.leftovers
	dvc repro
	@dvc metrics show metrics/evaluate.json

# On a Ray cluster: RAY_ADDRESS=head:6379 make study. The options are words, of which the shell is
# to make nothing more.
study: $(if $(RAY_ADDRESS),$(CLUSTER),$(VENV))  ## compare the epochs and widths of study.yaml; options: make study OPTIONS="--on test"
	@set -f; python -m experiments.study $$OPTIONS

experiments: $(VENV)  ## dvc exp show, without the columns that say little
	@dvc exp show --only-changed --drop \
		'(data|metrics|models|plots|requirements|stages).*|.*(step|_low|_high)|State|Executor'
	@echo "Experiments belong to the commit they started from; of the others: dvc exp list -A"

reader: $(VENV)  ## the better reader of reader.yaml as an experiment, compared with HEAD
	@python -m tools.reader

compare: $(VENV)  ## compare two revisions, make compare A=main B=wide; default: HEAD, workspace
	@python -m experiments.compare -- "$${A:-HEAD}" "$${B:-workspace}"

verify: $(VENV)  ## run HEAD again in a temporary clone and compare every byte with dvc.lock
	@python -m tools.verify

predict: $(VENV)  ## the digit in a picture: make predict IMAGE=photo.jpg
	$(if $(IMAGE),,$(error Name a picture: make predict IMAGE=photo.jpg))
	@python -m app.predict -- "$$IMAGE"

app: $(APP)  ## a page to draw digits on; HOST=127.0.0.1 PORT=8000
	@python -m app.server --host="$$HOST" --port="$$PORT"

check: lint  ## before a commit: lint, and the quick tests
	pytest -m "not slow"

test: $(DEVELOPMENT)  ## all tests
	pytest

lint: $(DEVELOPMENT)  ## ruff, mypy, and the workflow against GitHub's schema
	ruff check
	ruff format --check
	mypy
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml

LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --quiet
# requirements.txt first: the other files take the versions that it has.
lock: $(DEVELOPMENT)  ## compile requirements*.txt anew from requirements*.in
	$(LOCK) requirements.in -o requirements.txt
	for name in build app cluster dev; do \
		$(LOCK) requirements-$$name.in -o requirements-$$name.txt || exit; done

# Nothing is installed that is not pinned by its hash. antlr4-python3-runtime comes as source alone: without
# --no-build-isolation the newest setuptools would be downloaded, unpinned, to build it.
HASHED = --require-hashes --no-build-isolation

# uv, and the checks that need no package. Debian has ensurepip in a package of its own.
$(UV): requirements-build.txt
	@command -v git >/dev/null || { echo "git is needed; install it: apt install git, or brew install git"; exit 1; }
	@said=$$($(or $(PYTHON),exit 3;) -c '$(SUPPORTED)' 2>&1); case $$? in \
	0) ;; \
	3) echo "Python 3.11, 3.12 or 3.13 is needed$(if $(PYTHON),; $(PYTHON) is none of them). Install one,\
	 as by apt install python3.12 or brew install python@3.12, and name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
		exit 1 ;; \
	*) echo "$(PYTHON) cannot be run: $$said"; exit 1 ;; esac
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module; install it: apt install $(notdir $(PYTHON))-venv"; exit 1; }
	@echo "Installing into .venv: a minute, this once"
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --disable-pip-version-check $(HASHED) $$([ -t 2 ] || echo --quiet) -r $<
	@touch $@

$(VENV): requirements.txt
$(APP): requirements.txt requirements-app.txt
$(CLUSTER): requirements.txt requirements-cluster.txt
$(DEVELOPMENT): requirements.txt requirements-app.txt requirements-cluster.txt requirements-dev.txt
# Compiled now: TensorFlow's first import would take 20 seconds more, or every import where Python may not write.
$(VENV) $(APP) $(CLUSTER) $(DEVELOPMENT): $(UV)
	@.venv/bin/uv pip install $(HASHED) --compile-bytecode $$([ -t 2 ] || echo --quiet) \
		$(patsubst %,-r %,$(filter %.txt,$^))
	@touch $@
