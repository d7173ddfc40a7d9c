# make repro   the whole study, set-up included; a second time runs no stage
# make repro DATA=new   the same, where raw data were changed on purpose
# make test    the tests, set-up included
# make integration   the long tests: whole runs, on real layouts and real servers
# make smoke   every stage in about a minute, in a temporary clone of the working tree
# make gate BASE=origin/main   the metrics against those of a git revision; fails where they are worse
# make ui      MLflow's user interface on 127.0.0.1
# make fuzz SECONDS=60   strangers' files, made up, against every reader; make audit   known holes of the locked packages
# make server  MLflow on PostgreSQL and S3, on 127.0.0.1; the password from CITYLENS_SERVER_PASSWORD
# make remote-demo   push, clone, pull, nothing to run, sync: on an S3 server that it starts and stops
# make lint, make types, make lock (after a change of pyproject.toml), make clean

PYTHON ?= python3
PORT ?= 5000
SECONDS ?= 60
BASE ?= origin/main
FORMAT ?= text
DATABASE_PORT ?= 5433
STORE_PORT ?= 9000
VENV := $(CURDIR)/.venv
INSTALLED := $(VENV)/.installed
UV := $(VENV)/bin/uv

export PATH := $(VENV)/bin:$(PATH)
export UV_SYSTEM_CERTS := 1
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
# Some thirty stages start one after the other; without byte code each would compile torch and MLflow anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test integration fuzz audit lint types ui lock clean setup smoke gate server remote-demo

repro: $(INSTALLED)
	citylens check $(if $(filter new,$(DATA)),--accept)
	citylens tidy
	citylens preload dvc repro
	citylens sync

test: $(INSTALLED)
	pytest

integration: $(INSTALLED)
	pytest -m integration $(ONLY)

fuzz: $(INSTALLED)
	FUZZ_SECONDS=$(SECONDS) pytest tests/test_fuzz.py

audit: $(INSTALLED)
	.ci/audit

# Never to a team's server. What is edited and not yet committed goes along; PYTHONPATH comes before the editable install. The dvc.lock
# in git is longer than this study's, and DVC reads and writes all of it after each stage.
smoke: export CITYLENS_TRACKING :=
smoke: $(INSTALLED)
	@set -e; clone=$$(mktemp -d); trap 'rm -rf "$$clone"' EXIT; \
	git clone --quiet --shared . "$$clone"; \
	git diff --binary HEAD | git -C "$$clone" apply --allow-empty; \
	git ls-files -z --others --exclude-standard | tar --null --create --file - --files-from - | tar --extract --file - --directory "$$clone"; \
	cd "$$clone"; rm -f dvc.lock; export PYTHONPATH="$$clone/src"; \
	citylens use smoke; citylens tidy; citylens preload dvc repro; citylens sync

# OUTPUT=FILE writes the table there, in FORMAT (text, markdown, json).
gate: $(INSTALLED)
	citylens gate --base $(BASE) --format $(FORMAT) $(if $(OUTPUT),--output $(OUTPUT))

lint: $(INSTALLED)
	ruff check .
	ruff format --check .

types: $(INSTALLED)
	mypy

ui: $(INSTALLED)
	mlflow ui --host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///$(CURDIR)/mlflow.db --default-artifact-root $(CURDIR)/mlartifacts

server: $(INSTALLED)
	citylens server --port $(PORT) --database-port $(DATABASE_PORT) --store-port $(STORE_PORT)

remote-demo: $(INSTALLED)
	scripts/remote-demo.sh

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(UV) pip install --quiet --python $(VENV)/bin/python --require-hashes --compile-bytecode -r requirements.lock
	$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	touch $@

lock: $(INSTALLED)
	$(UV) pip compile --quiet --universal --python-version 3.11 --extra test --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
# What `make server` holds stays.
	rm -rf $(VENV) reports/data_docs
	[ ! -d .citylens ] || find .citylens -mindepth 1 -maxdepth 1 ! -name server -exec rm -rf {} +
