# `make demo` and `make test` set up what they need in .venv, once.
PYTHON ?= python3
BIN := .venv/bin
DEMO_RUN := runs/demo

.PHONY: demo test slow lint clean

demo: .venv/installed
	$(BIN)/keras-inception train digits --name demo --overwrite --width 0.25 --epochs 6
	$(BIN)/keras-inception export $(DEMO_RUN)/model.keras --name digits
	$(BIN)/python examples/predict_digits.py saved_models/digits

test: .venv/installed-test lint
	# whole files side by side, each on a core of its own
	OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 \
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

slow: .venv/installed-test
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

clean:
	rm -rf .venv runs build *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: .venv/installed setup.cfg pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	# its wheel asks for one release of torch; the tests need the network's Python alone
	-$(BIN)/python -m pip install --quiet --no-deps torchvision==0.29.1
	# it asks for a TensorFlow of that name; the tests need the messages alone
	-$(BIN)/python -m pip install --quiet --no-deps tensorflow-serving-api==2.21.0
	touch $@
