"""Notebook output of a result: its page in a frame, or a picture where no scripts run."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from math import prod
from typing import Any

from attention_core.errors import AttentionCoreError
from attention_core.plot.picture import MOST_PANELS, make_picture
from attention_core.plot.source import source_of
from attention_core.plot.web.page import page_of
from attention_core.plot.web.static import static_picture

__all__ = ["in_notebook"]

MOST = 128  # queries and keys
MOST_CELLS = 30_000  # of all panels: a notebook keeps every page that it shows
MOST_PAIRS = 1 << 24  # computing all their weights takes about a second
HEIGHT, MATRIX = 680, 480  # pixels, at most, of the frame and of the matrix in it


def in_notebook(result: Any) -> str:
    """A result as HTML: a page of its weights in a sandboxed frame.

    A picture is behind the frame, for sites that show notebooks without frames. Where the frame
    is shown without scripts, the page itself has the picture.
    """
    shape = source_of(result, "weights").shape
    if prod(shape) > MOST_PAIRS:
        return _only_said(result, f"{' x '.join(map(str, shape))} weights are too many to show")
    items = prod(shape[:-2])
    batch = None if items <= MOST_PANELS else tuple([0] * (len(shape) - 2))
    try:
        picture = make_picture(
            result,
            query_labels=None,
            key_labels=None,
            what="weights",
            batch=batch,
            names=None,
            queries=None,
            keys=None,
            summary="max",
            most=(MOST, MOST),
            most_together=MOST_CELLS,
        )
    except AttentionCoreError as error:
        return _only_said(result, str(error))
    title = type(result).__name__
    if batch is not None:
        title += f": item {list(batch)} of {items}"
    html = page_of(picture, (None, None), title)
    height = _height(len(picture.panels), picture.queries.cells, picture.keys.cells)
    static = static_picture(picture, title, (None, None))
    address = f"data:image/svg+xml;base64,{b64encode(static.encode()).decode()}"
    return (
        f'<div style="position: relative; min-height: {height}px">'
        f'<img alt="{escape(title)}" src="{address}" style="max-width: 100%">'
        f'<iframe title="{escape(title)}" sandbox="allow-scripts" srcdoc="{escape(html)}" '
        f'style="position: absolute; inset: 0; width: 100%; height: 100%; border: 0; '
        f'background: Canvas"></iframe></div>'
    )


def _height(panels: int, rows: int, columns: int) -> int:
    """Pixels for the matrix beside the lists; in a narrow frame the lists are below it."""
    cell = min(40, MATRIX // columns)
    longest = max(rows, columns)
    texts = 250 if panels > 1 or rows > 1 else 215  # with or without controls
    return min(HEIGHT, texts + max(20 + cell * rows, 24 * (longest if longest <= 64 else 12)))


def _only_said(result: Any, why: str) -> str:
    return f"<pre>{escape(repr(result))}</pre><p>{escape(why)}; see its plot() and to_html().</p>"
