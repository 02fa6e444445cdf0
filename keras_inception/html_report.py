"""The parts of self-contained HTML pages, for the reports of several commands."""

import base64
import html
import io
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1c2430; background: #fff;
       max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { margin-top: 2.4rem; }
img { max-width: 100%; height: auto; } figure { margin: 1.5rem 0; }
figcaption, .note { color: #55606e; font-size: .92rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; white-space: nowrap; }
th, td { padding: .3rem .8rem; text-align: right;
         font-variant-numeric: tabular-nums; border-bottom: 1px solid #e3e7ec; }
th:first-child, td:first-child { text-align: left; }
"""


def page(title: str, *parts: str) -> str:
    """Returns a whole page from parts that are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n" + "\n".join(parts) + "\n</body>\n"
        "</html>\n"
    )


def heading(text: str) -> str:
    """Returns the title of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraphs(texts: Iterable[str]) -> str:
    """Returns a paragraph for each plain text."""
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts)


def figure(png: bytes, caption: str) -> str:
    """Returns a picture with its caption; the page contains the bytes."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table, which scrolls by itself where the window is too narrow."""

    def line(cells: Sequence[object], tag: str) -> str:
        inner = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>\n{line(columns, "th")}\n{body}\n</table></div>'


def png(drawing: "Figure") -> bytes:
    """Returns a matplotlib figure as the bytes of a PNG file.

    Characters that the font lacks become boxes, without a warning for each.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        drawing.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
