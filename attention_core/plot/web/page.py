"""Interactive pages: one file, which any browser opens without a network."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.errors import OptionTypeError, shown
from attention_core.files.atomic import replacing
from attention_core.files.paths import as_path
from attention_core.plot.axis import Axis, plural, visible
from attention_core.plot.cells import Summary
from attention_core.plot.files import checked_suffix
from attention_core.plot.options import check_limits, check_texts
from attention_core.plot.picture import Picture, make_picture
from attention_core.plot.source import Drawn, What
from attention_core.plot.web.data import Images, data_of
from attention_core.plot.web.images import addresses
from attention_core.plot.web.static import static_picture

__all__ = ["SUFFIXES", "page", "page_of", "write_page"]

SUFFIXES = (".html", ".htm")

MOST_CELLS = 1_000_000  # of all panels; each is a byte of the page
MOST = 1000  # with more queries or keys, a cell is a block
LONGEST = 200  # characters of a label


@checked_arguments
def page(
    results: Drawn,
    path: str | os.PathLike[str] | None = None,
    *,
    query_labels: Iterable[Any] | None = None,
    key_labels: Iterable[Any] | None = None,
    images: Sequence[Iterable[Any] | None] | None = None,
    what: What = "weights",
    batch: Any = None,
    names: Sequence[str] | None = None,
    queries: slice | ArrayLike | None = None,
    keys: slice | ArrayLike | None = None,
    summary: Summary = "max",
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
) -> str:
    """Make an interactive page that shows who attends to whom, for mouse, touch and keyboard.

    The page is one self-contained file. It loads nothing from any server, which browsers enforce by
    its Content-Security-Policy. A heat map shows the number of each cell. Lines join queries and
    keys, a list selects a head, and a slider moves through the queries or the steps of a decoder.
    Where scripts do not run, the page is a picture.

    Parameters
    ----------
    results
        An `AttentionResult`; a `MultiHeadResult`, whose heads are panels; weights (..., L, S) from
        elsewhere, as in `heatmap`; or a list of the steps of a decoder: results, or weights (S,),
        which may have more keys from step to step.
    path
        File to write the page to as well, with the extension ``.html`` or ``.htm``. It is replaced
        whole or not at all.
    query_labels, key_labels
        One for each query and key: words, the letters of a string, numbers, or images
        (height, width) or (height, width, 3). Without labels, positions.
    images
        A pair of images of the queries and images of the keys, shown beside their labels; either
        may be None.
    what, batch, names, queries, keys, summary
        As in `heatmap`.
    limits
        As in `heatmap`: the ends of the color scale. Numbers beyond them are shown unchanged.
    title
        Title of the page; None for "Attention weights" or "Attention scores".
    xlabel, ylabel
        Names of a key and a query, such as "source word" and "written word".

    Returns
    -------
    str
        The page.

    Raises
    ------
    OptionError, ShapeError, DTypeError
        As `heatmap`.
    ParameterFileError
        For a path with another extension, or one that cannot be written.

    Notes
    -----
    Numbers are those of the result, bit for bit, up to 180,000 cells in float32 and 90,000 in
    float64. In larger pages, numbers of the strongest keys of each query are exact; all others are
    rounded to one of 254 shades. More than 1,000 queries or keys, and more than a million cells,
    are summarized in blocks. The page states both.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> x = np.eye(3)
    >>> result = ac.attend(2 * x, x, x, scorer="dot")
    >>> html = ac.plot.page(result, query_labels="abc", key_labels="xyz", title="Three letters")
    >>> html[:15], "<title>Three letters</title>" in html, "http:" in html.split("<script>")[1]
    ('<!doctype html>', True, False)
    """
    if path is not None:
        checked_suffix(as_path(path), SUFFIXES)
    try:
        of_queries, of_keys = (None, None) if images is None else images
    except (TypeError, ValueError):
        raise OptionTypeError(
            f"images must be a pair: images of the queries and of the keys, got {shown(images)}"
        ) from None
    picture = make_picture(
        results,
        query_labels=query_labels,
        key_labels=key_labels,
        what=what,
        batch=batch,
        names=names,
        queries=queries,
        keys=keys,
        summary=summary,
        most=(MOST, MOST),
        most_together=MOST_CELLS,
        longest=LONGEST,
    )
    axes = picture.queries, picture.keys
    if limits is not None:
        picture = replace(picture, given_limits=check_limits(limits))
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    both = addresses(axes[0], of_queries), addresses(axes[1], of_keys)
    html = page_of(picture, both, title, (ylabel, xlabel))
    if path is not None:
        write_page(html, path)
    return html


def page_of(
    picture: Picture,
    images: Images,
    title: str | None = None,
    axis_names: tuple[str | None, str | None] = (None, None),
) -> str:
    """The page of a picture."""
    if title is None:
        title = f"Attention {picture.what}"
    title = " ".join(visible([title], LONGEST))
    query, key = (
        " ".join(visible([axis.name if name is None else name], LONGEST))
        for axis, name in zip((picture.queries, picture.keys), axis_names, strict=True)
    )
    data = data_of(picture, images)
    data["query"]["title"], data["key"]["title"] = query, key
    number = picture.what.removesuffix("s")
    template, script, style = map(_source, ("page.html", "page.js", "page.css"))
    texts = {
        "title": title,
        "about": f"{_counts(picture)}. {picture.note} {_roundings(data['strongest'])}".strip(),
        "matrix": f"Heat map of {picture.what}: {_counts(picture)}",
        "query": query,
        "key": key,
        "number": number,
        "panel": _panel(picture),
        "last_row": str(picture.queries.cells - 1),
    }
    return Template(template).substitute(
        {name: escape(text) for name, text in texts.items()},
        hide_panels=" hidden" * (len(picture.panels) == 1),
        hide_rows=" hidden" * (picture.queries.cells == 1),
        hide_play=" hidden" * (data["steps"] is False or picture.queries.cells == 1),
        legend=_legend(picture),
        picture=static_picture(picture, title, images),
        # only "</" could end a script, and JSON may escape "<"
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


def write_page(html: str, path: str | os.PathLike[str]) -> None:
    """Write a page, whole or not at all.

    Raises
    ------
    ParameterFileError
        For a name with another extension, or a path that cannot be written.
    """
    target = as_path(path)
    checked_suffix(target, SUFFIXES)
    with replacing(target) as temporary:
        temporary.write_text(html, "utf-8", newline="\n")


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(source: str) -> str:
    """The hash of a source, as a Content-Security-Policy writes it."""
    return f"sha256-{b64encode(sha256(source.encode()).digest()).decode()}"


def _counts(picture: Picture) -> str:
    counts = [_count(picture.queries), _count(picture.keys)]
    if len(picture.panels) > 1:
        counts.append(f"{len(picture.panels)} {_panel(picture)}s")
    return ", ".join(counts)


def _panel(picture: Picture) -> str:
    return "head" if all("head" in panel.name for panel in picture.panels) else "panel"


def _count(axis: Axis) -> str:
    """A count and its noun.

    >>> from attention_core.plot.axis import make_axis
    >>> _count(make_axis("query", 1, None, None, 9))
    '1 query'
    """
    n = len(axis.places)
    return f"{n:,} {axis.name if n == 1 else plural(axis.name)}"


def _roundings(strongest: int) -> str:
    if not strongest:
        return ""
    return (
        f"Numbers of the {strongest} strongest keys of each query are exact; others are rounded to "
        f"one of 254 shades."
    )


def _legend(picture: Picture) -> str:
    low, high = picture.limits
    number, scale = picture.what.removesuffix("s"), '<i id="scale" class="scale"></i>'
    parts = [f"{number} {low:.3g} {scale} {high:.3g}"]
    if picture.what == "weights":
        parts.append("shaded by its square root")
    if picture.has_masked:
        parts.append('<i class="masked"></i> masked')
    if picture.has_nan:
        parts.append('<i class="nan"></i> not a number')
    return "".join(f"<span>{part}</span>" for part in parts)
