"""Heat maps drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.errors import OptionError
from attention_core.plot.cells import Summary
from attention_core.plot.labels import label_axes
from attention_core.plot.layout import ALONE, Neighbors, arrange, inches, panel_size
from attention_core.plot.margins import DEEP, GAP, draw_margins
from attention_core.plot.picture import Panel, Picture, make_picture
from attention_core.plot.source import Attended, What
from attention_core.plot.style import (
    MASKED,
    MASKED_HATCH,
    NAN,
    NAN_HATCH,
    QUIET,
    color_map,
    need_matplotlib,
    style,
)
from attention_core.typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

__all__ = ["heatmap"]

Size = tuple[float, float]

MOST_CELLS = 256  # along an axis: of at least three pixels each
MOST_SHAPES = 4096  # cells that are drawn as shapes; more become pixels, in SVG and PDF too
LEAST_SEPARATE = 0.2  # inches of a cell that has a line around it
COLUMNS = 4
HATCH = "////"


def heatmap(
    result: Attended | ArrayLike,
    *,
    query_labels: Iterable[Any] | None = None,
    key_labels: Iterable[Any] | None = None,
    what: What = "weights",
    batch: Any = None,
    names: Sequence[str] | None = None,
    queries: slice | ArrayLike | None = None,
    keys: slice | ArrayLike | None = None,
    summary: Summary = "max",
    margins: bool = True,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A heat map: queries down, keys across, and what each row and column adds up to.

    Darker cells have more weight. Masked cells are gray and hatched, so that they are told from
    small weights; what is not a number is blue and hatched. Bars to the right show the entropy of
    each row, ``-sum_j w_ij log w_ij``: 0 when one key has all the weight, ``log n`` when n keys
    share it. Bars below show the mass of each key, ``sum_i w_ij``.

    More than 256 queries or keys are summarised: a cell then stands for a block of them, and the
    axes say how many are in it. The numbers come in blocks of rows, never as a whole matrix.

    Parameters
    ----------
    result
        An `AttentionResult`; or weights (..., L, S) or (S,) from elsewhere, as an array, a masked
        array, or a `scipy.sparse` array whose stored entries are the allowed places.
    query_labels, key_labels
        One for each query and key: words, the letters of a string, numbers, or images
        (height, width) or (height, width, 3). Images without colors are ink on paper: the larger,
        the darker. Without labels, positions.
    what
        ``"weights"``, or ``"scores"``: what the softmax sees, after softcap and bias.
    batch
        An index into the batch axes, such as ``0`` or ``(0, slice(4))``; None for all items. Each
        becomes a panel, on one scale of colors; up to 16 panels.
    names
        One title for each panel, such as ``["head 0", "head 1"]``; None for their indices.
    queries, keys
        A slice or positions, to draw some of them only. Entropy and mass stay those of all.
    summary
        What a cell shows of a block: its ``"max"``, in which no peak is lost, or its ``"mean"``.
    margins
        Whether to draw the bars.
    limits
        The numbers at the ends of the scale; None for 0 and the largest weight, or for the least
        and the largest score. Give the same to pictures that are to be compared.
    title
        Above it all.
    ax
        Draw a single panel there; leave room around it, or use ``layout="constrained"``.

    Returns
    -------
    matplotlib.figure.Figure
        As large as what is in it needs; not known to pyplot, so nothing has to be closed.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    OptionError
        When there is nothing to draw, or too much; for an unknown choice or position.
    ShapeError, DTypeError
        For labels, names or arrays that do not fit.

    Notes
    -----
    The colors run from light to dark in steps of equal distance in the Oklab color space, so
    that equal differences look equal, also without color or with any kind of color vision.

    References
    ----------
    Ottosson, "A perceptual color space for image processing", 2020,
    https://bottosson.github.io/posts/oklab/

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> x = np.eye(3)
    >>> result = ac.attend(2 * x, x, x, scorer="dot", is_causal=True)
    >>> figure = ac.plot.heatmap(result, query_labels="abc", key_labels="abc")
    >>> figure.axes[0].get_title(), [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ('', ['a', 'b', 'c'])
    """
    need_matplotlib()
    picture = make_picture(
        result,
        query_labels=query_labels,
        key_labels=key_labels,
        what=what,
        batch=batch,
        names=names,
        queries=queries,
        keys=keys,
        summary=summary,
        most=(MOST_CELLS, MOST_CELLS),
    )
    if ax is not None and len(picture.panels) > 1:
        raise OptionError(
            f"ax has room for one panel, not {len(picture.panels)}; choose it with batch="
        )
    limits = picture.limits if limits is None else limits
    texts = [*(picture.queries.labels or ()), *(picture.keys.labels or ()), title or ""]
    with style([*texts, *(panel.name for panel in picture.panels)]):
        if ax is None:
            return _figure(picture, margins, limits, title)
        mesh = _draw_panel(ax, picture, picture.panels[0], inches(ax), margins, limits, ALONE)
        _draw_key(ax, mesh, picture, inches(ax), margins)
        if title:
            ax.set_title(title, loc="left", weight="bold", parse_math=False)
        return ax.figure.figure  # of a part of a figure, the whole


def _figure(picture: Picture, margins: bool, limits: Size, title: str | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = size = panel_size(picture)
    figure = Figure(figsize=(2 * width, 2 * height), dpi=160)
    FigureCanvasAgg(figure)  # measures text
    columns = min(COLUMNS, len(picture.panels))
    panels = []
    for place, panel in enumerate(picture.panels):
        axes = figure.add_axes((0, 0, 0.5, 0.5))
        neighbors = Neighbors(
            left=place % columns > 0,
            right=place % columns < columns - 1 and panel is not picture.panels[-1],
            above=place >= columns,
        )
        mesh = _draw_panel(axes, picture, panel, size, margins, limits, neighbors)
        if place == columns - 1:
            _draw_key(axes, mesh, picture, size, margins)
        panels.append(axes)
    arrange(figure, panels, columns, size, title)
    return figure


def _draw_panel(
    axes: Axes,
    picture: Picture,
    panel: Panel,
    size: Size,
    margins: bool,
    limits: Size,
    neighbors: Neighbors,
) -> QuadMesh:
    queries, keys = picture.queries, picture.keys
    is_many = panel.cells.size > MOST_SHAPES
    cell = min(size[0] / keys.cells, size[1] / queries.cells)
    lines: dict[str, Any] = {"rasterized": is_many}
    if cell >= LEAST_SEPARATE:
        lines |= {"edgecolors": "white", "linewidth": 0.5}
    mesh = axes.pcolormesh(
        keys.edges,
        queries.edges,
        np.clip(panel.cells, *limits),  # Inf has a place, the end of the scale
        cmap=color_map(),
        vmin=limits[0],
        vmax=limits[1],
        **lines,
    )
    masked = np.ma.getmaskarray(panel.cells)
    _hatch(axes, picture, masked, "none", MASKED_HATCH, is_many, "masked")
    _hatch(axes, picture, np.isnan(panel.cells.filled(0)), NAN, NAN_HATCH, is_many, "NaN")
    axes.set(xlim=(0, len(keys.places)), ylim=(len(queries.places), 0))
    for spine in axes.spines.values():
        spine.set_color(QUIET)
    label_axes(axes, queries, keys, size, neighbors)
    if panel.name:
        axes.set_title(panel.name, loc="left", fontsize=9.5, weight="bold", parse_math=False)
    if margins:
        draw_margins(axes, picture, panel, size, neighbors)
    return mesh


def _hatch(
    axes: Axes, picture: Picture, where: Array, face: str, lines: str, is_many: bool, label: str
) -> None:
    """Hatch cells, those beside each other as one."""
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


def _draw_key(axes: Axes, mesh: QuadMesh, picture: Picture, size: Size, margins: bool) -> None:
    """The scale of the colors, and what is hatched how, to the right of a panel."""
    from matplotlib.patches import Patch

    width, height = size
    x = 1 + (0.2 + (GAP + DEEP if margins else 0)) / width
    tall = min(max(height, 0.9), 2.2)
    scale = axes.inset_axes((x, 1 - tall / height, 0.12 / width, tall / height))
    bar = axes.figure.colorbar(mesh, cax=scale)
    each = picture.what.removesuffix("s")
    if picture.queries.step * picture.keys.step > 1:
        each = f"{'largest' if picture.summary == 'max' else 'mean'} {each}\nin a cell"
    bar.set_label(each, color=QUIET)
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
