"""Options of pictures: their types, and the checks of those that style a figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from numpy.typing import ArrayLike

from attention_core.arrays.scalars import as_float, check_flag
from attention_core.errors import OptionError, OptionTypeError, shown
from attention_core.plot.cells import Summary
from attention_core.plot.source import What

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = [
    "Look",
    "PageOptions",
    "PlotOptions",
    "TextOptions",
    "check_figsize",
    "check_limits",
    "check_texts",
    "make_look",
]

LARGEST_SIDE = 400  # inches; 64,000 pixels, about what image files can hold


class _Content(TypedDict, total=False):
    query_labels: Iterable[Any] | None
    key_labels: Iterable[Any] | None
    what: What
    batch: Any
    names: Sequence[str] | None
    queries: slice | ArrayLike | None
    keys: slice | ArrayLike | None
    summary: Summary


class PlotOptions(_Content, total=False):
    """Options of `attention_core.plot.heatmap`."""

    margins: bool
    limits: tuple[float, float] | None
    title: str | None
    xlabel: str | None
    ylabel: str | None
    cmap: str | Colormap | None
    annotate: bool | str
    figsize: tuple[float, float] | None
    ax: Axes | None


class PageOptions(_Content, total=False):
    """Options of `attention_core.plot.page`."""

    images: Sequence[Iterable[Any] | None] | None
    limits: tuple[float, float] | None
    title: str | None
    xlabel: str | None
    ylabel: str | None


class TextOptions(_Content, total=False):
    """Options of `attention_core.plot.text`."""

    width: int
    ascii_only: bool


@dataclass(frozen=True, slots=True)
class Look:
    """The style of every panel of a figure."""

    limits: tuple[float, float]
    cmap: Colormap
    margins: bool
    number_format: str | None
    """Format of the numbers in the cells; None for no numbers."""
    xlabel: str | None
    ylabel: str | None


def make_look(
    *,
    limits: tuple[float, float],
    cmap: Colormap,
    margins: bool,
    annotate: bool | str,
    xlabel: str | None,
    ylabel: str | None,
) -> Look:
    """Check the options that style a figure.

    Raises
    ------
    OptionError
        For limits that are not two increasing finite numbers, or for an invalid number format.
    """
    if not isinstance(annotate, str):
        annotate = check_flag("annotate", annotate)
    number_format = annotate if isinstance(annotate, str) else ".2f" if annotate else None
    if number_format is not None:
        try:
            format(0.5, number_format)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"annotate must be True or a number format such as '.2f' or '.0%', "
                f"got {shown(annotate)}"
            ) from error
    return Look(
        check_limits(limits), cmap, check_flag("margins", margins), number_format, xlabel, ylabel
    )


def check_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """The ends of a color scale.

    Raises
    ------
    OptionError, OptionTypeError
        For anything but two increasing finite numbers.
    """
    return _pair("limits", limits, "increasing")


def check_texts(**texts: object) -> None:
    """Raise `OptionTypeError` for titles that are not text."""
    for name, text in texts.items():
        if not (text is None or isinstance(text, str)):
            raise OptionTypeError(f"{name} must be text, got {shown(text)}")


def check_figsize(figsize: tuple[float, float]) -> tuple[float, float]:
    """Width and height of a figure in inches.

    Raises
    ------
    OptionError
        For sizes that are not positive, or too large for a file.
    """
    width, height = _pair("figsize", figsize, "positive")
    if max(width, height) > LARGEST_SIDE:
        raise OptionError(f"figsize must be at most {LARGEST_SIDE} inches, got {shown(figsize)}")
    return width, height


def _pair(name: str, given: Any, rule: str) -> tuple[float, float]:
    wanted = f"{name} must be two {rule} finite numbers, got {shown(given)}"
    try:
        first, second = given
    except (TypeError, ValueError):
        raise OptionTypeError(wanted) from None
    first, second = as_float(first), as_float(second)
    if first is None or second is None:
        raise OptionTypeError(wanted)
    is_right = first < second if rule == "increasing" else min(first, second) > 0
    if not (is_right and math.isfinite(first) and math.isfinite(second)):
        raise OptionError(wanted)
    return first, second
