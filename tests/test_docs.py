"""The examples in docstrings run; README and the guides show what really happens."""

import contextlib
import difflib
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from configparser import ConfigParser

import numpy as np
import pages
import pytest
from pages import PAGES, ROOT

import keras_inception as ki
import keras_inception_cli
import tuning

PACKAGES = (ki, keras_inception_cli, tuning)
MODULES = [package.__name__ for package in PACKAGES] + [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
FIRST = ROOT / "docs/first-model.md"
GUIDES = [page for page in PAGES if page != FIRST]


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


def page_id(page):
    return str(page.relative_to(ROOT))


def run_page(page, folder, provided=None, slow=False):
    """Runs a page's blocks in order; gives what each command showed and printed."""
    results = []
    workshop = pages.Workshop(folder, provided)
    with contextlib.closing(workshop):
        for block in pages.blocks(page):
            if block.marker == "excerpt" or (block.marker == "slow" and not slow):
                continue
            if block.language == "python":
                workshop.run_python(block.text)
            for command, shown in block.commands:
                results.append((command, shown, workshop.run(command)))
    return results


def check_outputs(results):
    for command, shown, printed in results:
        failed = re.search(r"^[\w.-]+: error: ", printed, re.MULTILINE)
        assert not failed or "error: " in shown, f"{command}\n{printed}"
        if shown.strip():
            difference = difflib.ndiff(pages.form(shown), pages.form(printed))
            assert pages.agrees(shown, printed), "\n".join([command, *difference])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The first model's commands in a folder, which then holds it and its export."""
    folder = tmp_path_factory.mktemp("first")
    return folder, run_page(FIRST, folder)


def test_the_first_model_is_as_shown(first):
    check_outputs(first[1])


def has(page, *markers):
    kept = [block for block in pages.blocks(page) if block.marker in markers]
    return any(block.commands or block.language == "python" for block in kept)


@pytest.mark.parametrize("page", [p for p in GUIDES if has(p, None)], ids=page_id)
def test_guides_show_what_their_commands_print(page, first, tmp_path):
    check_outputs(run_page(page, tmp_path, first[0]))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if has(p, "slow")], ids=page_id)
def test_long_commands_of_the_pages(page, first, tmp_path):
    check_outputs(run_page(page, tmp_path, first[0], slow=True))


def commands_of(page):
    lines = [command for block in pages.blocks(page) for command, _ in block.commands]
    for line in [*lines, *pages.inline_commands(page)]:
        yield from pages.words_of(line)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_options_in_the_pages_exist(page):
    extras = extras_of_the_package()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands_of(page):
        pages.parse(words)
        if words[0] == "make":
            assert set(words[1:]) <= set(targets), words
        if words[:2] == ["pip", "install"]:
            for asked in re.findall(r"\[([\w,]+)\]", " ".join(words)):
                assert set(asked.split(",")) <= extras, words
        if words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
            source = (ROOT / f"{words[2].replace('.', '/')}.py").read_text()
            assert all(f'"{w}"' in source for w in words if w.startswith("--")), words
        if words[0] in ("python", "pytest"):
            files = [word for word in words if word.endswith(".py")]
            assert all((ROOT / file).is_file() for file in files), words


def extras_of_the_package():
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return set(settings["options.extras_require"])


def test_a_page_that_lies_is_found():
    printed = "main  0.9861\naux_4a  0.97\nwrote a.keras\n"
    assert pages.agrees("main 0.5\naux_4a 1\nwrote a.keras", printed)
    assert pages.agrees("...\nwrote a.keras", printed)
    for lie in ("main 0.5\nwrote a.keras", "main 0.5\naux_4a 1\nwrote b.keras", ""):
        assert not pages.agrees(lie, printed)
    with pytest.raises(SystemExit):
        pages.parse(["keras-inception", "train", "digits", "--hedas", "inception_4a"])


@pytest.mark.slow  # half a minute
def test_the_gradient_shrinks_more_through_more_layers():
    done = subprocess.run(
        [sys.executable, ROOT / "examples/alexnet_gradients.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line]
    starts = [
        lines.index(line) for line in lines if line[0] in ("AlexNet", "GoogLeNet")
    ]
    ratios = []
    for start in starts:
        assert lines[start][1:] == ["gaussian", "xavier", "he", "batch", "norm"]
        of_network = lines[start + 1 : starts[1] if start == 0 else None]
        *stages, factors = of_network
        first, last = (np.array(row[1:], float) for row in (stages[0], stages[-1]))
        steps = int(factors[2].strip("()"))
        per_layer = np.array(factors[3:], float)
        np.testing.assert_allclose(per_layer, (first / last) ** (1 / steps), atol=0.02)
        ratios.append(first / last)
    assert [len(lines[start]) for start in starts] == [6, 6]
    alexnet, googlenet = ratios
    assert googlenet[0] < 1e-6 < alexnet[0]
    assert googlenet[1] < alexnet[1]
    assert googlenet[2] > 0.01  # He's


@pytest.mark.slow  # half a minute
def test_the_minimal_example_trains_exports_and_answers(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples/train_minimal.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    accuracies = dict(
        re.findall(r"^(main|aux\w*) +accuracy ([\d.]+)", done.stdout, re.M)
    )
    assert len(accuracies) == 3
    assert float(accuracies["main"]) > 0.8
    assert (tmp_path / "saved_models/digits/1/saved_model.pb").is_file()
    answers = re.findall(r"true (\d) +predicted (\d)", done.stdout)
    assert len(answers) == 8
    assert sum(truth == answer for truth, answer in answers) >= 6
