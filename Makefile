# Commands for users; `make` lists them. The pipeline itself is dvc.yaml.

# The first Python on PATH for which TensorFlow's pinned release exists. SUPPORTED exits with status 3 if
# there is no release for a version.
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
# Address of `make app`. Not `?=`: some shells export HOST, the machine's name.
HOST := 127.0.0.1
PORT := 8000
# Other names of the web page's host: make app NAMES="box.local digits.example.org".
NAMES :=
# These values reach the shell as environment variables. In a recipe, make would expand the $5 of
# cost$5.png, and the shell would execute backticks.
override A := $(value A)
override B := $(value B)
override IMAGE := $(value IMAGE)
override HOST := $(value HOST)
override PORT := $(value PORT)
override NAMES := $(value NAMES)
override OPTIONS := $(value OPTIONS)
export A B IMAGE HOST PORT NAMES OPTIONS

# The stages run `python`, so .venv/bin comes first, as after `. .venv/bin/activate`.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH

.PHONY: help quickstart repro verify study experiments reader compare predict app check test lint lock
help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

quickstart: $(VENV)  ## the whole pipeline on 5,000 images in a package; no data set download
	@python -m experiments.quickstart

repro: $(VENV)  ## dvc repro on all of MNIST, after a check of params.yaml
	@python -m experiments.check_params
	@python -m experiments.repository.recovery_steps
	dvc repro
	@dvc metrics show metrics/evaluate.json

# On a Ray cluster: RAY_ADDRESS=head:6379 make study. With `set -f` OPTIONS is split into words, but not
# expanded as file names.
study: $(if $(RAY_ADDRESS),$(CLUSTER),$(VENV))  ## compare widths and epochs (study.yaml); options: make study OPTIONS="--on test"
	@set -f; python -m experiments.study $$OPTIONS

experiments: $(VENV)  ## dvc exp show with the important columns
	@dvc exp show --only-changed --drop \
		'(data|metrics|models|plots|requirements|stages).*|.*(step|_low|_high)|State|Executor'
	@echo "Only experiments of HEAD are shown. All: dvc exp show -A"

reader: $(VENV)  ## train with data augmentation (reader.yaml) as an experiment; compare it with HEAD
	@python -m experiments.reader

compare: $(VENV)  ## compare two revisions, make compare A=main B=wide; default: HEAD, workspace
	@python -m experiments.compare -- "$${A:-HEAD}" "$${B:-workspace}"

verify: $(VENV)  ## run HEAD again in a temporary clone; compare every byte with dvc.lock
	@python -m experiments.verify

predict: $(VENV)  ## read the digits in a picture: make predict IMAGE=photo.jpg
	$(if $(IMAGE),,$(error Name a picture: make predict IMAGE=photo.jpg))
	@python -m app.predict -- "$$IMAGE"

app: $(APP)  ## serve a web page to draw digits on; HOST=127.0.0.1 PORT=8000 NAMES="box.local proxy.example.org"
	@set -f; python -m app.server --host="$$HOST" --port="$$PORT" $${NAMES:+--names} $$NAMES

check: lint  ## lint and the quick tests, before a commit
	pytest -m "not slow"

test: $(DEVELOPMENT)  ## all tests but the long ones
	pytest

lint: $(DEVELOPMENT)  ## ruff, mypy, and the workflow against GitHub's schema
	ruff check
	ruff format --check
	mypy
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml

LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --quiet
# requirements.txt first: the other files use its versions.
lock: $(DEVELOPMENT)  ## recompile requirements*.txt from requirements*.in
	$(LOCK) requirements.in -o requirements.txt
	for name in build app cluster dev; do \
		$(LOCK) requirements-$$name.in -o requirements-$$name.txt || exit; done

# All packages are pinned by hash. --no-build-isolation: antlr4-python3-runtime exists as source only, and
# an isolated build would download the newest setuptools, unpinned.
HASHED = --require-hashes --no-build-isolation

# Installs uv, after checks of what the machine needs. On Debian, ensurepip is a separate package.
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
# Without compiled bytecode, TensorFlow's first import takes 20 s more; every import, if .venv is read-only.
$(VENV) $(APP) $(CLUSTER) $(DEVELOPMENT): $(UV)
	@.venv/bin/uv pip install $(HASHED) --compile-bytecode $$([ -t 2 ] || echo --quiet) \
		$(patsubst %,-r %,$(filter %.txt,$^))
	@touch $@
