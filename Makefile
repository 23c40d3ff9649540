# Tasks by one word, in the environment .venv (or: make test PYTHON=…).
PYTHON ?= .venv/bin/python

.PHONY: environment test fast slurm lint types docs versions

environment:
	python3 -m venv .venv
	.venv/bin/pip install -q -c configs/constraints.txt -e '.[local,test,jobs]'

test:
	$(PYTHON) -m pytest -q

fast:
	$(PYTHON) -m pytest -q -m fast

slurm:
	CI=true $(PYTHON) -m pytest -q -m slurm

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

docs:
	$(PYTHON) -m pytest -q -n 0 tests/unit/guide tests/unit/test_doors.py tests/runs/test_guide.py

versions:
	.ci/versions
