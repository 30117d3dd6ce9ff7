"""The picture of the architecture, drawn from the imports in the source when the site is built.

A line ``<!-- architecture -->`` in a page stands for it. Each box is a folder of the package or a
file beside them; an arrow means that something in the upper box imports something in the lower
one. Arrows that follow from others are omitted.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["imports", "layers", "needed", "picture", "setup"]

PACKAGE = Path(__file__).parents[2] / "attention_core"
WORDS = {
    "arguments",
    "errors",
    "typing",
}  # imported everywhere, so arrows would hide others
ENTRY = "__init__"
MARK = "<!-- architecture -->"

Graph = dict[str, set[str]]

WIDTH, HEIGHT, ACROSS, DOWN, EDGE = 146, 30, 16, 46, 8


def imports(package: Path = PACKAGE) -> Graph:
    """The imports between folders and top-level files of the package."""
    graph: Graph = {}
    for path in sorted(package.rglob("*.py")):
        row = _row(path.relative_to(package).parts[0])
        found = graph.setdefault(row, set())
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                first, *rest = name.split(".")
                if first == package.name:
                    found.add(_row(rest[0]) if rest else ENTRY)
        found.discard(row)
    return {row: found - WORDS for row, found in graph.items() if row not in WORDS}


def _row(part: str) -> str:
    return part.removesuffix(".py")


def needed(graph: Mapping[str, set[str]]) -> Graph:
    """The arrows that do not follow from others.

    >>> needed({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """

    def below(row: str) -> set[str]:
        return graph[row].union(*map(below, graph[row]))

    return {
        row: {each for each in found if not any(each in below(other) for other in found - {each})}
        for row, found in graph.items()
    }


def layers(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Boxes in rows, each below all that import it, ordered so that few arrows cross.

    >>> layers({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    [['c'], ['b'], ['a']]
    """

    def depth(row: str) -> int:
        return 1 + max(map(depth, graph[row]), default=-1)

    rows: list[list[str]] = [[] for _ in range(1 + max(map(depth, graph)))]
    for row in sorted(graph):
        rows[depth(row)].append(row)
    neighbors: Graph = {row: set(found) for row, found in graph.items()}
    for row, found in graph.items():
        for other in found:
            neighbors[other].add(row)
    for _ in range(8):
        places = {
            row: (place + 0.5) / len(layer) for layer in rows for place, row in enumerate(layer)
        }
        for layer in rows:
            layer.sort(key=lambda row: _mean([places[each] for each in neighbors[row]]))
    return rows


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.5


def picture(package: Path = PACKAGE) -> str:
    """The graph as SVG, in the colors of the page around it."""
    graph = needed(imports(package))
    rows = layers(graph)[::-1]  # whatever imports is above
    width = 2 * EDGE + max(map(len, rows)) * (WIDTH + ACROSS) - ACROSS
    height = 2 * EDGE + len(rows) * (HEIGHT + DOWN) - DOWN
    corner = {}
    for level, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + ACROSS) + ACROSS) / 2
        for place, name in enumerate(row):
            corner[name] = left + place * (WIDTH + ACROSS), EDGE + level * (HEIGHT + DOWN)
    parts = []
    for name, found in graph.items():
        for other in sorted(found):
            (x0, y0), (x1, y1) = corner[name], corner[other]
            x0, x1, y0 = x0 + WIDTH / 2, x1 + WIDTH / 2, y0 + HEIGHT
            bend = (y1 - y0) / 2
            parts.append(
                f'<path d="M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} '
                f'{x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1 - 3:.0f}" marker-end="url(#tip)"/>'
            )
    for name, (x, y) in corner.items():
        is_folder = (package / name).is_dir()
        label = "__init__.py" if name == ENTRY else name + ("/" if is_folder else ".py")
        parts.append(
            f'<rect class="{"folder" if is_folder else "file"}" x="{x:.0f}" y="{y:.0f}" '
            f'width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + HEIGHT / 2 + 4:.0f}">{escape(label)}</text>'
        )
    return textwrap.dedent(
        f"""\
        <svg class="architecture" viewBox="0 0 {width} {height}" role="img"
        aria-label="Boxes for the folders and files of the package. Arrows go down from each to
        what it imports.">
        <defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6"
        orient="auto"><path d="M0 0L6 3L0 6z"/></marker></defs>
        {{}}
        </svg>"""
    ).format("\n".join(parts))


def _draw(_: Sphinx, __: str, source: list[str]) -> None:
    if MARK in source[0]:
        source[0] = source[0].replace(MARK, f"```{{raw}} html\n{picture()}\n```")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
