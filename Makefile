# What a user types; the pipeline itself is dvc.yaml. `make` alone lists the targets.

# The first Python on the PATH that TensorFlow's pinned release is built for; 3 says it is another.
SERVES := import sys; sys.exit(3 * (not (3, 11) <= sys.version_info < (3, 14)))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SERVES)' 2>/dev/null && echo $$python && break; done)
endif

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

.PHONY: help quickstart repro verify study experiments reader compare predict app test lint lock
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
study: $(VENV) $(if $(RAY_ADDRESS),$(CLUSTER))  ## compare the epochs and widths of study.yaml; options: make study OPTIONS="--on test"
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

test: $(DEVELOPMENT)  ## all tests
	pytest

lint: $(DEVELOPMENT)  ## ruff, mypy, and the workflow against GitHub's schema
	ruff check
	ruff format --check
	mypy
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml

lock: $(DEVELOPMENT)  ## compile requirements*.txt anew from requirements*.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --quiet requirements.in -o requirements.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --quiet requirements-build.in -o requirements-build.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --quiet requirements-app.in -o requirements-app.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --quiet requirements-cluster.in -o requirements-cluster.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --quiet requirements-dev.in -o requirements-dev.txt

# Nothing runs that is not pinned by its hash. antlr4-python3-runtime comes as source alone: pip would
# fetch whatever setuptools is the newest to build it, and run that.
INSTALL = pip install --disable-pip-version-check --require-hashes --no-build-isolation \
	$$([ -t 2 ] || echo --quiet)

$(VENV): requirements-build.txt requirements.txt
	@said=$$($(or $(PYTHON),exit 3;) -c '$(SERVES)' 2>&1); case $$? in \
	0) ;; \
	3) echo "Python 3.11, 3.12 or 3.13 is needed$(if $(PYTHON), and $(PYTHON) is none of them);\
	 name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1 ;; \
	*) echo "$(PYTHON) cannot be run: $$said"; exit 1 ;; esac
	@echo "Installing into .venv: a minute or two, this once"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -r requirements-build.txt
	@$(INSTALL) -r requirements.txt
	@touch $@

$(APP): $(VENV) requirements-app.txt
	@$(INSTALL) -r requirements-app.txt
	@touch $@

$(CLUSTER): $(VENV) requirements-cluster.txt
	@$(INSTALL) -r requirements-cluster.txt
	@touch $@

$(DEVELOPMENT): $(APP) $(CLUSTER) requirements-dev.txt
	@$(INSTALL) -r requirements-dev.txt
	@touch $@
