"""Bars in the margins of a heat map: the entropy of each row, the mass of each column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from attention_core.plot.axis import Axis
from attention_core.plot.layout import Neighbors
from attention_core.plot.picture import Panel, Picture
from attention_core.plot.style import BARS, NAN_TEXT, QUIET
from attention_core.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DEEP", "GAP", "draw_margins"]


GAP, DEEP = 0.06, 0.46  # inches between cells and bars, and for the longest bar
SEPARATE = 64  # up to this many bars have gaps between them


def draw_margins(
    axes: Axes, picture: Picture, panel: Panel, size: tuple[float, float], neighbors: Neighbors
) -> None:
    """Draw bars to the right of the rows and below the columns, on scales that all panels share.

    The entropy scale ends at ``log S``, so it is the same in all pictures with S keys.
    """
    width, height = size
    right = axes.inset_axes((1 + GAP / width, 0, DEEP / width, 1), sharey=axes)
    below = axes.inset_axes((0, -(GAP + DEEP) / height, 1, DEEP / height), sharex=axes)
    right.set_label("entropy")
    below.set_label("key mass")

    centers, thickness = _places(picture.queries)
    right.barh(centers, np.nan_to_num(panel.entropy), height=thickness, color=BARS, linewidth=0)
    _mark_nan(right, np.zeros_like(centers), centers, panel.entropy)
    centers, thickness = _places(picture.keys)
    below.bar(centers, np.nan_to_num(panel.key_mass), width=thickness, color=BARS, linewidth=0)
    _mark_nan(below, centers, np.zeros_like(centers), panel.key_mass)

    _plain(right, "left")
    _plain(below, "top")
    end = picture.most_entropy or 1.0
    right.set_xlim(0, max(end, _most(each.entropy for each in picture.panels)))
    right.set_xticks([] if neighbors.right else [0, end])
    right.set_xticklabels([] if neighbors.right else ["0", f"{end:.2g}"], fontsize=7.5)
    right.tick_params(axis="y", labelleft=False, labelright=False)
    if not neighbors.right:
        unit = "nats" if picture.queries.step == 1 else "nats, mean"
        # from the left, since to the left of it are the bars of the keys
        right.set_xlabel(f"entropy\n({unit})", fontsize=8, color=QUIET, labelpad=2, loc="left")
    top = _most(each.key_mass for each in picture.panels) or 1.0
    below.set_ylim(top, 0)
    below.set_yticks([] if neighbors.left else [0, top])
    below.set_yticklabels([] if neighbors.left else ["0", f"{top:.2g}"], fontsize=7.5)
    below.tick_params(axis="x", labeltop=False, labelbottom=False)
    if not neighbors.left:
        name = "key mass" if picture.keys.step == 1 else "key mass\n(mean)"
        below.set_ylabel(
            name, fontsize=8, color=QUIET, rotation=0, ha="right", va="center", labelpad=2
        )


def _most(values: Iterable[Array]) -> float:
    """The largest finite number, at least 0."""
    numbers = np.concatenate(list(values))
    return float(numbers[np.isfinite(numbers)].max(initial=0))


def _places(axis: Axis) -> tuple[Array, Array]:
    """Center and thickness of each bar."""
    edges = axis.edges
    return (edges[1:] + edges[:-1]) / 2, np.diff(edges) * (0.76 if axis.cells <= SEPARATE else 1.0)


def _mark_nan(margin: Axes, x: Array, y: Array, values: Array) -> None:
    missing = np.isnan(values)
    if missing.any():
        margin.plot(
            x[missing], y[missing], "x", color=NAN_TEXT, markersize=4, clip_on=False, zorder=3
        )


def _plain(margin: Axes, base: str) -> None:
    margin.patch.set_visible(False)
    margin.tick_params(length=0, pad=2, colors=QUIET)
    for side, spine in margin.spines.items():
        spine.set_visible(side == base)
