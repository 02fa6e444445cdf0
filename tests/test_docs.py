"""The examples in the docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import keras_inception as ki
import tuning

MODULES = ["keras_inception"] + [
    module.name
    for package in (ki, tuning)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    public = {public: getattr(ki, public) for public in ki.__all__}
    names = vars(module) | public | {"np": np, "ki": ki}
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(module, name, extraglobs=names):
        runner.run(test)
    assert runner.failures == 0
