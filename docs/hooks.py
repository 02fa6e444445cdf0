"""What MkDocs does not do by itself for this site.

A file outside `docs/` that a page links to becomes part of the site, at its path in the
repository. So links work on a code host and on the site, and no text exists twice. The
reference has a page for each public package; design.md, a map drawn from the imports.
"""

import ast
import graphlib
import itertools
import posixpath
import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# README is the home page, so the index of the guides has another name on the site.
MOVED = {"docs/README.md": "guides.md"}
ROOMS = (
    *("data", "early_exit", "evaluation", "export", "gradients", "networks"),
    *("optimizers", "server", "training", "weights"),
)
REFERENCE = {
    "keras_inception": ["keras_inception"],
    **{room: [f"keras_inception.{room}"] for room in ROOMS},
    "tuning": ["tuning", "tuning.hypermodel", "tuning.settings", "tuning.space"],
}
GAP = 8  # between the boxes of the map, in pixels
LABEL = "Map of the imports"
MAP = "<!-- on the site: a map drawn from the imports -->"

# A fenced block, or the target of a link or picture with its anchor.
LINK = re.compile(r"^```.*?^```|(?<=\]\()([^)\s#]+)(?=[)#])", re.MULTILINE | re.DOTALL)
# A script, style, picture or frame from another host.
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="?(?:https?:)?//[^>]*>"""
    r"""|<link\b[^>]*\brel="?(?:stylesheet|icon|pre)[^>]*\bhref="?(?:https?:)?//[^>]*>"""
)
# An example in a docstring, up to the next empty line.
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n.*\S.*)*", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference, and all files that README or a page leads to."""
    files.remove(files.get_file_from_path("README.md"))
    for name, modules in REFERENCE.items():
        text = "\n\n".join([f"# {modules[0]}", *(f"::: {m}" for m in modules)])
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    waiting = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not files.get_file_from_path(place(path)):
            file = File.generated(config, place(path), abs_src_path=str(path))
            files.append(file)
        new = linked_files(path) - seen
        seen |= new
        waiting += sorted(new)
    return files


def on_page_markdown(markdown: str, page: Page, **_) -> str:
    """Turns links between files of the repository into links between pages."""
    if not page.file.abs_src_path:
        return markdown  # of the reference
    source = Path(page.file.abs_src_path)

    def moved(match: re.Match) -> str:
        if not match[1] or "://" in match[1]:
            return match[0]
        target = place((source.parent / match[1]).resolve())
        return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    markdown = LINK.sub(moved, markdown)
    if MAP in markdown:
        markdown = markdown.replace(MAP, drawn(rooms_by_import()))
    return markdown


def on_post_page(output: str, page: Page, **_) -> None:
    """Fails the build if a page loads from another host, or shows code as quotation."""
    if loaded := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {loaded[0]}")
    if not page.file.abs_src_path and "<blockquote" in output:
        raise PluginError(f"{page.file.src_uri} has an example that is not fenced")


class Examples(griffe.Extension):
    """Fences the examples in docstrings, which Markdown would take for quotations."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Called for every object inside a package."""
        if obj.docstring:
            text = EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
            obj.docstring.value = text

    def on_package(self, *, pkg: griffe.Module, **_) -> None:
        """Called for the package itself."""
        self.on_object(obj=pkg)


def place(path: Path) -> str:
    """The path on the site of a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    return MOVED.get(name, name.removeprefix("docs/"))


def linked_files(path: Path) -> set[Path]:
    """The files of the repository that a page links to."""
    if path.suffix != ".md":
        return set()
    targets = {match[1] for match in LINK.finditer(path.read_text()) if match[1]}
    files = {(path.parent / target).resolve() for target in targets}
    return {file for file in files if file.is_file()}


def rooms_by_import() -> dict[str, set[str]]:
    """The modules and packages of the library, each with those that it imports."""
    package = ROOT / "keras_inception"
    rooms: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                ours = [n for n in names if n.startswith("keras_inception.")]
                rooms.setdefault(room, set()).update(n.split(".")[1] for n in ours)
    del rooms["__init__"]
    return {room: (imported & set(rooms)) - {room} for room, imported in rooms.items()}


def drawn(rooms: dict[str, set[str]]) -> str:
    """An SVG: each row of boxes imports from the rows above it, along the lines.

    A line is left out where a way over other boxes leads to the same one.
    """
    sorter = graphlib.TopologicalSorter(rooms)
    sorter.prepare()
    rows = []
    while row := sorted(sorter.get_ready()):
        sorter.done(*row)
        rows.append(row)
    widths = [sum(map(box_width, row)) + GAP * (len(row) - 1) for row in rows]
    width_of_map = max(widths) + 2  # for the outlines at both ends
    places, lines, boxes = {}, [], []
    for top, row, row_width in zip(itertools.count(2, 60), rows, widths, strict=False):
        left = (width_of_map - row_width) / 2
        for room in row:
            width = box_width(room)
            places[room] = (x := left + width / 2, top)
            box = (
                f'<rect x="{left:.0f}" y="{top}" width="{width}" height="26" rx="4"/>'
                f'<text x="{x:.0f}" y="{top + 17}">{room}</text>'
            )
            if room in REFERENCE:
                box = f'<a href="reference/{room}.html">{box}</a>'
            boxes.append(box)
            left += width + GAP
    for room, imported in rooms.items():
        indirect = set().union(*(reached(rooms, other) for other in imported))
        for other in sorted(imported - indirect):
            (x, y), (to, bottom) = places[room], places[other]
            lines.append(f'<path d="M{x:.0f} {y}L{to:.0f} {bottom + 26}"/>')
    parts = "".join(lines + boxes)
    height = top + 28  # the last row, and its outline
    size = f'width="{width_of_map}" height="{height}"'
    size += f' viewBox="0 0 {width_of_map} {height}"'
    svg = f'<svg {size} aria-label="{LABEL}">{parts}</svg>'
    return f'<div class="map" tabindex="0">{svg}</div>'  # scrolled by keys as well


def box_width(room: str) -> int:
    """The width of a room's box in the map, in pixels."""
    return round(6.7 * len(room)) + 12


def reached(rooms: dict[str, set[str]], room: str) -> set[str]:
    """All that a room imports, and that its imports import."""
    return rooms[room].union(*(reached(rooms, other) for other in rooms[room]))
