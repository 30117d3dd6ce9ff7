"""An alignment as a picture: output characters as rows, input characters as columns."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

from attention_core.demo.translate.read import Translation
from attention_core.plot import heatmap, page, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["as_page", "as_text", "draw", "is_day"]


def draw(found: Translation) -> Figure:
    """Draw the alignment as a heat map (extra ``plot``).

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    figure = heatmap(
        found.weights,
        query_labels=found.iso,
        key_labels=found.text,
        limits=(0, 1),
        margins=False,
        title=_title(found),
    )
    figure.axes[0].set(xlabel="read", ylabel="written")
    return figure


def as_page(found: Translation, path: str | os.PathLike[str] | None = None) -> str:
    """The alignment as a page, with one row for each decoder step."""
    return page(
        list(found.weights),
        path,
        query_labels=found.iso,
        key_labels=found.text,
        title=_title(found),
        xlabel="character read",
        ylabel="character written",
    )


def _title(found: Translation) -> str:
    return f"{found.text} = {found.iso}" + ("" if found.is_sure else "?")


def as_text(found: Translation, *, width: int = 80, ascii_only: bool = False) -> str:
    """Draw the alignment as text, for a terminal."""
    return text(
        found.weights,
        query_labels=found.iso,
        key_labels=found.text,
        width=width,
        ascii_only=ascii_only,
    )


def is_day(iso: str) -> bool:
    """Whether the calendar has this day.

    Examples
    --------
    >>> is_day("2024-02-29"), is_day("2023-02-29")
    (True, False)
    """
    try:
        datetime.date.fromisoformat(iso)
    except ValueError:
        return False
    return True
