"""Links of all Markdown files; the site's navigation; changelog and citation."""

import ast
import re
import subprocess

import pytest
from pages import BLOCK, PAGES, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MARKDOWN = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split()


def links_of(page):
    """The files that a page links to, with the anchors within them."""
    for target in LINK.findall(BLOCK.sub("", page.read_text())):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors_of(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ +(.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).replace(" ", "-").lower() for h in headings}


@pytest.mark.parametrize("name", MARKDOWN)
def test_links_resolve(name):
    for file, anchor in links_of(ROOT / name):
        assert file.exists(), file
        assert not anchor or anchor in anchors_of(file), (file, anchor)


def test_every_guide_is_linked_from_readme_or_the_index():
    index = [ROOT / "README.md", ROOT / "docs/README.md"]
    linked = {file for page in index for file, _ in links_of(page)}
    assert {*PAGES, ROOT / "CHANGELOG.md"} - {ROOT / "README.md"} <= linked


@pytest.fixture(scope="module")
def navigation():
    """The pages that the site's navigation lists."""
    text = (ROOT / "mkdocs.yml").read_text()
    nav = text[text.index("\nnav:") : text.index("\ntheme:")]
    listed = re.findall(r"([\w./-]+\.md)$", nav, re.MULTILINE)
    assert len(listed) == len(set(listed))
    return set(listed)


def test_the_navigation_lists_every_page(navigation):
    # README is the home page of the site, and docs/README.md there guides.md
    pages = {
        name.removeprefix("docs/") for name in MARKDOWN if name != "docs/README.md"
    }
    reference = {name for name in navigation if name.startswith("reference/")}
    assert navigation - reference == pages | {"guides.md"}


LIBRARY = ast.parse((ROOT / "keras_inception/__init__.py").read_text())


def strings_of(name):
    """The strings in the value that `keras_inception` assigns to a name."""
    (value,) = (
        node.value
        for node in LIBRARY.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return {node.value for node in ast.walk(value) if isinstance(node, ast.Constant)}


def test_the_reference_has_every_public_room(navigation):
    rooms = strings_of("_AT_FIRST_USE") | {"early_exit", "gradients", "optimizers"}
    assert {f"reference/{room}.md" for room in rooms} <= navigation


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CITATION.cff"])
def test_the_version_is_that_of_the_package(name):
    (version,) = strings_of("__version__")
    assert version in re.findall(r"\d+\.\d+\.\d+", (ROOT / name).read_text())
