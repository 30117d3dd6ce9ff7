"""One panel of a heat map: its cells, hatching, numbers and color scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attention_core.plot.labels import label_axes
from attention_core.plot.layout import Neighbors
from attention_core.plot.margins import DEEP, GAP, draw_margins
from attention_core.plot.options import Look
from attention_core.plot.picture import Panel, Picture
from attention_core.plot.style import INK, MASKED, MASKED_HATCH, NAN, NAN_HATCH, QUIET
from attention_core.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

__all__ = ["draw_key", "draw_panel"]

Size = tuple[float, float]

MOST_SHAPES = 4096  # cells that are drawn as shapes; more become pixels, in SVG and PDF too
LEAST_SEPARATE = 0.2  # inches; larger cells have a line around them
HATCH = "////"


def draw_panel(
    axes: Axes, picture: Picture, panel: Panel, look: Look, size: Size, neighbors: Neighbors
) -> QuadMesh:
    """Draw the cells of a panel, its labels and its margins."""
    queries, keys = picture.queries, picture.keys
    is_many = panel.cells.size > MOST_SHAPES
    cell = min(size[0] / keys.cells, size[1] / queries.cells)
    lines: dict[str, Any] = {"rasterized": is_many}
    if cell >= LEAST_SEPARATE:
        lines |= {"edgecolors": "white", "linewidth": 0.5}
    mesh = axes.pcolormesh(
        keys.edges,
        queries.edges,
        np.clip(panel.cells, *look.limits),  # Inf has the color of the end of the scale
        cmap=look.cmap,
        vmin=look.limits[0],
        vmax=look.limits[1],
        **lines,
    )
    masked = np.ma.getmaskarray(panel.cells)
    _hatch(axes, picture, masked, "none", MASKED_HATCH, is_many, "masked")
    _hatch(axes, picture, np.isnan(panel.cells.filled(0)), NAN, NAN_HATCH, is_many, "NaN")
    if look.number_format is not None:
        _write_numbers(axes, picture, panel, look, mesh)
    axes.set(xlim=(0, len(keys.places)), ylim=(len(queries.places), 0))
    for spine in axes.spines.values():
        spine.set_color(QUIET)
    label_axes(axes, queries, keys, size, neighbors, look)
    if panel.name:
        axes.set_title(panel.name, loc="left", fontsize=9.5, weight="bold", parse_math=False)
    if look.margins:
        draw_margins(axes, picture, panel, size, neighbors)
    return mesh


def _hatch(
    axes: Axes, picture: Picture, where: Array, face: str, lines: str, is_many: bool, label: str
) -> None:
    """Hatch cells; neighbors in a row form one polygon."""
    from matplotlib.collections import PolyCollection

    if not where.any():
        return
    x, y = picture.keys.edges, picture.queries.edges
    change = np.diff(where.astype(np.int8), axis=1, prepend=0, append=0)
    (rows, starts), (_, stops) = np.nonzero(change == 1), np.nonzero(change == -1)
    left, right, top, bottom = x[starts], x[stops], y[rows], y[rows + 1]  # (runs,)
    corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1)
    axes.add_collection(
        PolyCollection(
            list(corners.reshape(-1, 4, 2)),
            facecolor=face,
            edgecolor=lines,
            linewidth=0,
            hatch=HATCH,
            label=label,
            rasterized=is_many,
        ),
        autolim=False,
    )


def _write_numbers(axes: Axes, picture: Picture, panel: Panel, look: Look, mesh: QuadMesh) -> None:
    """Write the number of each cell into it, in ink or in white, whichever is more legible."""
    x, y = (axis.edges[:-1] + np.diff(axis.edges) / 2 for axis in (picture.keys, picture.queries))
    for (row, column), value in np.ndenumerate(panel.cells.filled(np.nan)):
        if np.isfinite(value):
            red, green, blue, _ = mesh.cmap(mesh.norm(value))
            is_light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18
            axes.text(
                float(x[column]),
                float(y[row]),
                format(float(value), look.number_format or ""),
                ha="center",
                va="center",
                fontsize=7.5,
                color=INK if is_light else "white",
                clip_on=True,
                parse_math=False,
            )


def draw_key(axes: Axes, mesh: QuadMesh, picture: Picture, size: Size, margins: bool) -> None:
    """Draw the color scale and a legend of the hatching to the right of a panel."""
    from matplotlib.patches import Patch

    width, height = size
    x = 1 + (0.2 + (GAP + DEEP if margins else 0)) / width
    tall = min(max(height, 0.9), 2.2)
    scale = axes.inset_axes((x, 1 - tall / height, 0.12 / width, tall / height))
    bar = axes.figure.colorbar(mesh, cax=scale)
    each = picture.what.removesuffix("s")
    if picture.queries.step * picture.keys.step > 1:
        each = f"{'largest' if picture.summary == 'max' else 'mean'} {each}\nin a cell"
    bar.set_label(each, color=QUIET, fontsize=9)
    bar.outline.set_visible(False)
    scale.tick_params(length=0, labelsize=8)
    scale.set_label("scale")
    kinds = (
        (picture.has_masked, MASKED, MASKED_HATCH, "masked"),
        (picture.has_nan, NAN, NAN_HATCH, "not a number"),
    )
    patches = [
        Patch(facecolor=face, edgecolor=lines, linewidth=0, hatch=HATCH, label=label)
        for is_there, face, lines, label in kinds
        if is_there
    ]
    if patches:
        axes.legend(
            handles=patches,
            loc="upper left",
            bbox_to_anchor=(x, 1 - (tall + 0.16) / height),
            borderaxespad=0,
            borderpad=0,
            frameon=False,
            handlelength=1.2,
            handleheight=1.2,
            fontsize=8,
        )
