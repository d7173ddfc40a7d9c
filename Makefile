# make repro   install everything, then run the study; a second time no stage runs
# make repro DATA=new   the same, and accept changed raw data as a new version
# make test    install everything, then run the tests
# make numeric   run the tests that compute once more, as on an older processor
# make integration   run the long tests: whole studies, real data layouts, real servers
# make all-tests   run both
# make smoke   run every stage in two minutes, in a temporary clone of the working tree
# make gate BASE=origin/main   compare the metrics with those of a git revision; fail if they are worse
# make ui      open MLflow's user interface on 127.0.0.1
# make fuzz SECONDS=60   try random files on every reader of strangers' files
# make bench   measure speeds, after make repro; SEGMENTER=FOLDER holds an ONNX scene parser; ROWS="explain train" for some
# make audit   look for known security holes in the locked packages
# make remote-demo   show push, clone, pull and sync on an S3 server that it starts and stops
# make lint, make types, make lock (after a change of pyproject.toml), make setup, make clean

PYTHON ?= python3
PORT ?= 5000
SECONDS ?= 60
BASE ?= origin/main
FORMAT ?= text
# Relative paths: the project's own path may hold spaces.
INSTALLED := .venv/.installed

# `value`: make would expand a $ in a path of the environment.
export PATH := $(CURDIR)/.venv/bin:$(value PATH)
export UV_SYSTEM_CERTS := 1
# A container's user may have no entry in /etc/passwd, where DVC and MLflow look for a name.
export USER ?= $(or $(shell id -un 2>/dev/null),user)
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := true
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
# Each stage is a process of its own. Without byte code, each would compile torch and MLflow again.
unexport PYTHONDONTWRITEBYTECODE
# Libraries need their docstrings, and give warnings that are no errors.
unexport PYTHONOPTIMIZE
unexport PYTHONWARNINGS

.PHONY: repro bench test numeric integration all-tests fuzz audit lint types ui lock clean setup smoke gate remote-demo

repro: $(INSTALLED)
	citylens check $(if $(filter new,$(DATA)),--accept)
	dvc repro

test: $(INSTALLED)
	pytest

# The tests that compute, once more as an older processor would: without AVX2 and AVX-512, with one thread.
numeric: export ONEDNN_MAX_CPU_ISA := SSE41
numeric: export ATEN_CPU_CAPABILITY := default
numeric: export OPENCV_CPU_DISABLE := AVX2,AVX512-SKX
numeric: export NPY_DISABLE_CPU_FEATURES := X86_V3 X86_V4 AVX512_ICL AVX512_SPR
numeric: export OMP_NUM_THREADS := 1
numeric: $(INSTALLED)
	pytest $(foreach part,training grad_cam science mask_checks streetscenes,tests/test_$(part).py)

integration: $(INSTALLED)
	pytest -m integration $(ONLY)

# Both in one run, where long and short tests share what they set up.
all-tests: $(INSTALLED)
	pytest -m "integration or not integration" $(ONLY)

fuzz: $(INSTALLED)
	FUZZ_SECONDS=$(SECONDS) pytest tests/test_fuzz.py

# Memory as the stages keep it (citylens/cli.py), for all that is compared.
bench: export MALLOC_MMAP_MAX_ := 0
bench: export MALLOC_TRIM_THRESHOLD_ := 1000000000000
bench: export THP_MEM_ALLOC_ENABLE := 1
bench: $(INSTALLED)
	python scripts/benchmarks $(ROWS)

audit: $(INSTALLED)
	.ci/audit

# The clone has uncommitted edits too, and PYTHONPATH makes it use its own code. Runs never go to a team's server. The clone starts
# without dvc.lock, because DVC reads and writes all of it after each stage, and the one in git is longer than this study's.
smoke: export CITYLENS_TRACKING :=
smoke: $(INSTALLED)
	@set -e; git rev-parse --quiet --verify HEAD >/dev/null || { \
		echo 'make smoke: clones with git; `git init && git add --all && git commit -m start` makes this a repository' >&2; exit 1; }; \
	clone=$$(mktemp -d); trap 'rm -rf "$$clone"' EXIT; \
	git clone --quiet --shared . "$$clone"; \
	git diff --binary HEAD | git -C "$$clone" apply --allow-empty; \
	git ls-files -z --others --exclude-standard | tar --null --create --file - --files-from - | tar --extract --file - --directory "$$clone"; \
	cd "$$clone"; rm -f dvc.lock; export PYTHONPATH="$$clone/src"; \
	citylens use smoke; dvc repro

# OUTPUT=FILE writes the table into a file, in FORMAT (text, markdown, json).
gate: $(INSTALLED)
	citylens gate --base "$(BASE)" --format $(FORMAT) $(if $(OUTPUT),--output "$(OUTPUT)")

lint: $(INSTALLED)
	ruff check .
	ruff format --check .

types: $(INSTALLED)
	mypy

ui: $(INSTALLED)
	@echo 'The trained networks: http://127.0.0.1:$(PORT)/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=trained-networks'
	mlflow ui --host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///mlflow.db --default-artifact-root mlartifacts

remote-demo: $(INSTALLED)
	scripts/remote-demo.sh

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --compile-bytecode -r requirements.lock
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
	touch $@

lock: $(INSTALLED)
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --extra test --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv
# An earlier `make server` kept a team's runs in .citylens/server.
	[ ! -d .citylens ] || find .citylens -mindepth 1 -maxdepth 1 ! -name server -exec rm -rf {} +
