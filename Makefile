# `make demo` and `make test` install what they need into .venv, once.
PYTHON ?= python3
BIN := .venv/bin
DEMO_RUN := runs/demo

.PHONY: demo test slow lint docs clean

demo: .venv/installed
	$(BIN)/keras-inception train digits --name demo --overwrite --width 0.25 --epochs 6
	$(BIN)/keras-inception export $(DEMO_RUN)/model.keras --name digits
	$(BIN)/python examples/predict_digits.py saved_models/digits

test: .venv/installed-test lint
	# Two files at a time, one core each, in alphabetical order: xdist would leave the
	# files with the fewest and longest tests to the end. A worker that dies fails the
	# run with the name of its test; restarted by xdist it would hang.
	OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
		--max-worker-restart 0

slow: .venv/installed-test
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site, in build/site; a warning or a link that leads nowhere fails.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean:
	rm -rf .venv runs build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	# its wheel requires one release of torch; the tests need only its Python code
	$(BIN)/python -m pip install --quiet --no-deps torchvision==0.29.1
	touch $@

.venv/installed-docs: .venv/installed setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@
