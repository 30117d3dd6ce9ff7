"""Sizes in inches of panels, and of figures once their labels are measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from attention_core.plot.axis import Axis
from attention_core.plot.picture import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ALONE", "LINE", "Neighbors", "arrange", "inches", "overhang", "panel_size"]

LINE = 0.165  # inches for a line of text
EDGE = 0.12  # around everything
BETWEEN = 0.22  # between panels

# The longer side of a panel in a figure of one, of two, and of more panels.
LONGEST = (6.0, 4.0, 2.4)
LARGEST_CELL, LARGEST_IMAGE = 0.42, 0.56
LEAST_SIDE = 0.42
LEAST_IMAGE = 0.24
LEAST_NUMBER = 0.36  # a cell with its number in it
MOST_LABELS = (64, 36, 20)  # a panel grows until this many labels are readable


class Neighbors(NamedTuple):
    """Sides on which a panel has a neighbor that shares its labels."""

    left: bool
    right: bool
    above: bool


ALONE = Neighbors(left=False, right=False, above=False)


def panel_size(picture: Picture, *, has_numbers: bool = False) -> tuple[float, float]:
    """Width and height of each panel, with square cells where that leaves them readable."""
    kind = min(len(picture.panels), len(LONGEST)) - 1
    longest = LONGEST[kind]
    axes = picture.keys, picture.queries
    counts = [len(axis.places) for axis in axes]
    largest = LARGEST_IMAGE if any(axis.images for axis in axes) else LARGEST_CELL
    least = [max(_least_cell(axis, MOST_LABELS[kind]), LEAST_NUMBER * has_numbers) for axis in axes]
    cell = max(min(largest, longest / max(counts)), *least)
    width, height = (
        max(LEAST_SIDE, min(count * cell, max(longest, count * smallest)))
        for count, smallest in zip(counts, least, strict=True)
    )
    return width, height


def _least_cell(axis: Axis, most_labels: int) -> float:
    if axis.images is not None:
        return LEAST_IMAGE
    return LINE if axis.labels is not None and len(axis.places) <= most_labels else 0.0


def inches(axes: Axes) -> tuple[float, float]:
    """Current width and height of axes."""
    box = axes.get_window_extent()
    return box.width / axes.figure.dpi, box.height / axes.figure.dpi


def arrange(
    figure: Figure,
    panels: Sequence[Axes],
    columns: int,
    size: tuple[float, float],
    title: str | None,
    figsize: tuple[float, float] | None = None,
) -> None:
    """Arrange panels as close as their labels and margins allow, and fit the figure to them.

    With `figsize` the figure has that size, and the panels share the room left by their labels.
    """
    width, height = size
    head = 0.34 if title else 0.0
    rows = -(-len(panels) // columns)
    margins = np.zeros((rows, columns, 4))  # left, right, below, above
    for place, axes in enumerate(panels):
        margins[divmod(place, columns)] = overhang(figure, axes)
    left, right = (margins[..., side].max(axis=0) for side in (0, 1))  # (columns,)
    below, above = (margins[..., side].max(axis=1) for side in (2, 3))  # (rows,)
    if figsize is not None:
        width = (figsize[0] - 2 * EDGE - BETWEEN * (columns - 1) - (left + right).sum()) / columns
        height = (
            figsize[1] - 2 * EDGE - BETWEEN * (rows - 1) - (below + above).sum() - head
        ) / rows
    across = left + width + right  # (columns,)
    down = above + height + below  # (rows,)
    whole = (
        2 * EDGE + across.sum() + BETWEEN * (columns - 1),
        2 * EDGE + down.sum() + BETWEEN * (rows - 1) + head,
    )
    if title:
        text = figure.text(0, 0, title, fontsize=12, weight="bold", va="top", parse_math=False)
        room = text.get_window_extent().width / figure.dpi + 2 * EDGE
        whole = figsize or (max(whole[0], room), whole[1])
        text.set_position((EDGE / whole[0], 1 - EDGE / whole[1]))
    figure.set_size_inches(*whole)
    for place, axes in enumerate(panels):
        row, column = divmod(place, columns)
        x = EDGE + across[:column].sum() + BETWEEN * column + left[column]
        y = EDGE + head + down[:row].sum() + BETWEEN * row + above[row] + height  # from the top
        axes.set_position((x / whole[0], 1 - y / whole[1], width / whole[0], height / whole[1]))


def overhang(figure: Figure, axes: Axes) -> tuple[float, float, float, float]:
    """Inches by which labels extend beyond a panel: left, right, below and above."""
    inner, outer = axes.get_window_extent(), axes.get_tightbbox()
    assert outer is not None
    sides = (inner.x0 - outer.x0, outer.x1 - inner.x1, inner.y0 - outer.y0, outer.y1 - inner.y1)
    left, right, below, above = (max(0.0, float(side)) / figure.dpi for side in sides)
    return left, right, below, above
