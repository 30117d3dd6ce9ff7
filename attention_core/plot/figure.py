"""Heat maps drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.errors import OptionError, OptionTypeError, shown
from attention_core.plot.cells import Summary
from attention_core.plot.layout import (
    ALONE,
    BETWEEN,
    LEAST_SIDE,
    Neighbors,
    arrange,
    inches,
    overhang,
    panel_size,
)
from attention_core.plot.options import Look, check_figsize, check_texts, make_look
from attention_core.plot.panel import draw_key, draw_panel
from attention_core.plot.picture import Picture, make_picture
from attention_core.plot.source import Drawn, What
from attention_core.plot.style import color_map, need_matplotlib, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["heatmap"]

Size = tuple[float, float]

MOST_CELLS = 256  # along an axis; each has at least three pixels
MOST_NUMBERS = 40  # along an axis, if the cells show their numbers
COLUMNS = 4


@checked_arguments
def heatmap(
    result: Drawn,
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
    xlabel: str | None = None,
    ylabel: str | None = None,
    cmap: str | Colormap | None = None,
    annotate: bool | str = False,
    figsize: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a heat map: queries down, keys across, and the sums of rows and columns in the margins.

    Darker cells have more weight. Masked cells are gray and hatched, so that they differ from
    small weights; NaN is blue and hatched. Bars to the right show the entropy of each row,
    ``-sum_j w_ij log w_ij``, on a scale from 0 (one key has all the weight) to ``log S`` (all S
    keys share it equally). Bars below show the mass of each key, ``sum_i w_ij``.

    More than 256 queries or keys are summarized: a cell then stands for a block of them, and the
    axes give the size of a block. Numbers are computed in blocks of rows, never as a whole matrix.

    Parameters
    ----------
    result
        An `AttentionResult`; or weights (..., L, S) or (S,) from elsewhere, as an array, a masked
        array, or a `scipy.sparse` array whose stored entries are the allowed pairs.
    query_labels, key_labels
        One for each query and key: words, the letters of a string, numbers, or images
        (height, width) or (height, width, 3). Grayscale images are drawn as ink on paper: larger
        is darker. Without labels, positions.
    what
        ``"weights"``, or ``"scores"``: the input of the normalizer, after softcap and bias.
    batch
        An index into the batch axes, such as ``0`` or ``(0, slice(4))``; None for all items. Each
        item becomes a panel, with one color scale for all; up to 16 panels.
    names
        One title for each panel, such as ``["head 0", "head 1"]``; None for their indices.
    queries, keys
        A slice or positions to draw. Entropy and mass still count all queries and keys.
    summary
        The summary of a block: its ``"max"``, which keeps every peak, or its ``"mean"``.
    margins
        Whether to draw the bars.
    limits
        The numbers at the ends of the color scale; None for 0 and the largest weight, or for the
        smallest and the largest score. Pictures with the same limits can be compared.
    title
        Title of the figure, or of `ax`.
    xlabel, ylabel
        Titles of the axes; None for "key" and "query", empty for none.
    cmap
        Name of a matplotlib color map, or a `matplotlib.colors.Colormap`; None for the default.
    annotate
        Write the number of each cell into it: True for two decimals, or a format such as
        ``".0%"``. For at most 40 queries and 40 keys.
    figsize
        Width and height of the figure in inches; None for the size that its content needs.
    ax
        Draw a single panel there. Its labels, margins and color scale stay inside the area that
        `ax` had, unless the figure has a layout engine, which makes room itself.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook shows it when it is the last line of a cell. In scripts that have imported
        pyplot, ``plt.show()`` opens it in a window; otherwise it need not be closed.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    OptionError
        When there is nothing to draw, or too much; for an unknown choice or position; for limits
        that do not increase.
    ShapeError, DTypeError
        For labels, names or arrays that do not fit.

    Warns
    -----
    UserWarning
        For letters that no installed font has; the warning names them.

    Notes
    -----
    The colors run from light to dark in equal steps of the Oklab color space. Equal differences
    therefore look equal, in grayscale and with any kind of color vision.

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
    >>> figure = ac.plot.heatmap(result, query_labels="abc", key_labels="abc", ylabel="letter")
    >>> figure.axes[0].get_ylabel(), [each.get_text() for each in figure.axes[0].get_xticklabels()]
    ('letter', ['a', 'b', 'c'])
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
    check_texts(title=title, xlabel=xlabel, ylabel=ylabel)
    look = make_look(
        limits=picture.limits if limits is None else limits,
        cmap=color_map(cmap),
        margins=margins,
        annotate=annotate,
        xlabel=xlabel,
        ylabel=ylabel,
    )
    _check_room(picture, look, figsize, ax)
    texts = [*(picture.queries.labels or ()), *(picture.keys.labels or ())]
    texts += [each for each in (title, xlabel, ylabel) if each]
    with style([*texts, *(panel.name for panel in picture.panels)]):
        if ax is not None:
            return _draw_into(ax, picture, look, title)
        size = panel_size(picture, has_numbers=look.number_format is not None)
        if figsize is not None:
            size = _size_within(check_figsize(figsize), size, picture, look, title)
        return _figure(picture, look, size, title, figsize)


def _check_room(picture: Picture, look: Look, figsize: Size | None, ax: Axes | None) -> None:
    from matplotlib.axes import Axes  # only pictures need it

    if not (ax is None or isinstance(ax, Axes)):
        raise OptionTypeError(f"ax must be one matplotlib Axes, got {shown(ax)}")
    if ax is not None and len(picture.panels) > 1:
        raise OptionError(
            f"ax has room for one panel, not {len(picture.panels)}; choose one with batch="
        )
    if ax is not None and figsize is not None:
        raise OptionError("figsize cannot be given with ax, which already has a size")
    cells = picture.queries.cells, picture.keys.cells
    if look.number_format is not None and max(cells) > MOST_NUMBERS:
        raise OptionError(
            f"annotate has room for {MOST_NUMBERS} queries and {MOST_NUMBERS} keys, not "
            f"{cells[0]} and {cells[1]}; choose some with queries= and keys="
        )


def _figure(
    picture: Picture, look: Look, size: Size, title: str | None, figsize: Size | None = None
) -> Figure:
    """Draw panels of one size in a figure that fits them, or of size `figsize`."""
    from attention_core.plot.shown import new_figure

    width, height = size
    figure = new_figure(2 * width, 2 * height)
    columns = min(COLUMNS, len(picture.panels))
    panels = []
    for place, panel in enumerate(picture.panels):
        axes = figure.add_axes((0, 0, 0.5, 0.5))
        neighbors = Neighbors(
            left=place % columns > 0,
            right=place % columns < columns - 1 and panel is not picture.panels[-1],
            above=place >= columns,
        )
        mesh = draw_panel(axes, picture, panel, look, size, neighbors)
        if place == columns - 1:
            draw_key(axes, mesh, picture, size, look.margins)
        panels.append(axes)
    arrange(figure, panels, columns, size, title, figsize)
    return figure


def _size_within(
    figsize: Size, size: Size, picture: Picture, look: Look, title: str | None
) -> Size:
    """The panel size that gives a figure the requested size.

    Found by drawing, since the layout of the labels depends on the panel size, and vice versa.
    """
    columns = min(COLUMNS, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    for _ in range(2):
        drawn = _figure(picture, look, size, title)
        needed = drawn.get_size_inches()
        _forget(drawn)
        size = (
            size[0] + (figsize[0] - float(needed[0])) / columns,
            size[1] + (figsize[1] - float(needed[1])) / rows,
        )
        if min(size) < LEAST_SIDE:
            least = [
                figure + (LEAST_SIDE - side) * count + BETWEEN
                for figure, side, count in zip(figsize, size, (columns, rows), strict=True)
            ]
            wide, tall = max(least[0], figsize[0]), max(least[1], figsize[1])
            raise OptionError(
                f"figsize ({figsize[0]:g}, {figsize[1]:g}) leaves no room for the cells; labels "
                f"and margins need at least ({wide:.1f}, {tall:.1f})"
            )
    return size


def _forget(figure: Figure) -> None:
    """Close a figure that pyplot may know."""
    import sys

    if "matplotlib.pyplot" in sys.modules:
        import matplotlib.pyplot as plt

        plt.close(figure)


def _draw_into(ax: Axes, picture: Picture, look: Look, title: str | None) -> Figure:
    """Draw the single panel of a picture into axes, within their present area."""
    if ax.figure.figure.get_layout_engine() is None:
        _make_room(ax, picture, look, title)
    _draw_alone(ax, picture, look, title, inches(ax))
    return ax.figure.figure  # the whole figure, if this is a subfigure


def _draw_alone(ax: Axes, picture: Picture, look: Look, title: str | None, size: Size) -> None:
    mesh = draw_panel(ax, picture, picture.panels[0], look, size, ALONE)
    draw_key(ax, mesh, picture, size, look.margins)
    if title:
        ax.set_title(title, loc="left", fontsize=11, weight="bold", parse_math=False)


def _make_room(ax: Axes, picture: Picture, look: Look, title: str | None) -> None:
    """Shrink axes by the overhang of their labels, measured on a trial drawing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    box = ax.get_position()
    whole = size = inches(ax)
    for _ in range(2):  # smaller axes may need other labels
        trial = Figure(figsize=(2 * size[0], 2 * size[1]), dpi=ax.figure.dpi)
        FigureCanvasAgg(trial)
        trial_ax = trial.add_axes((0.25, 0.25, 0.5, 0.5))
        _draw_alone(trial_ax, picture, look, title, size)
        left, right, below, above = overhang(trial, trial_ax)
        size = (max(whole[0] - left - right, LEAST_SIDE), max(whole[1] - below - above, LEAST_SIDE))
    ax.set_position(
        (
            box.x0 + box.width * left / whole[0],
            box.y0 + box.height * below / whole[1],
            box.width * size[0] / whole[0],
            box.height * size[1] / whole[1],
        )
    )
