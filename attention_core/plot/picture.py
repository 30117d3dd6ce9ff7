"""The content of a picture, independent of how it is drawn: panels of cells, margins, axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from attention_core.errors import OptionError, ShapeError, shown
from attention_core.plot.axis import LONGEST, Axis, as_names, make_axis
from attention_core.plot.cells import Summary, mean_per_cell
from attention_core.plot.source import Drawn, What, source_of
from attention_core.typing import Array

__all__ = ["Panel", "Picture", "batch_items", "make_picture"]


MOST_PANELS = 16


@dataclass(frozen=True, slots=True)
class Panel:
    """One batch item, such as a head."""

    name: str
    """Empty when there is only one."""
    cells: np.ma.MaskedArray[Any, Any]
    """(l, s): NaN if any pair is NaN, masked if every pair is masked."""
    entropy: Array
    """(l,)"""
    key_mass: Array
    """(s,)"""


@dataclass(frozen=True, slots=True)
class Picture:
    """Panels that share their axes and their scale."""

    what: What
    summary: Summary
    queries: Axis
    keys: Axis
    panels: list[Panel]
    most_entropy: float
    """``log S``: the entropy of a row that attends equally to all S keys."""
    given_limits: tuple[float, float] | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the scale of all panels: those given, or the least and the largest number."""
        if self.given_limits is not None:
            return self.given_limits
        numbers = np.concatenate([panel.cells.compressed() for panel in self.panels])
        numbers = numbers[np.isfinite(numbers)]
        if self.what == "weights":
            return 0.0, float(numbers.max(initial=0)) or 1.0
        if not len(numbers):
            return 0.0, 1.0
        low, high = float(numbers.min()), float(numbers.max())
        return (low, high) if low < high else (low - 0.5, high + 0.5)

    @property
    def has_masked(self) -> bool:
        """Whether there are cells without any pair that may attend."""
        return any(np.ma.getmaskarray(panel.cells).any() for panel in self.panels)

    @property
    def has_nan(self) -> bool:
        """Whether there are cells that are not a number."""
        return any(np.isnan(panel.cells.filled(0)).any() for panel in self.panels)

    @property
    def note(self) -> str:
        """A sentence about the pairs in a cell; empty where a cell is one pair."""
        rows, columns = self.queries.step, self.keys.step
        if rows == columns == 1:
            return ""
        of = "largest" if self.summary == "max" else "mean"
        parts = [f"{n} {plural}" for n, plural in ((rows, "queries"), (columns, "keys")) if n > 1]
        return (
            f"Each cell is the {of} of the {self.what} of {' by '.join(parts)}; margins are means."
        )


def make_picture(
    drawn: Drawn,
    *,
    query_labels: Iterable[Any] | None,
    key_labels: Iterable[Any] | None,
    what: What,
    batch: Any,
    names: Sequence[str] | None,
    queries: slice | ArrayLike | None,
    keys: slice | ArrayLike | None,
    summary: Summary,
    most: tuple[int, int],
    most_together: int | None = None,
    longest: int = LONGEST,
) -> Picture:
    """Gather the numbers of a picture in at most `most` rows and columns of cells.

    All panels together have at most `most_together` cells, a label at most `longest` characters.

    Raises
    ------
    OptionError, ShapeError, DTypeError
        As `attention_core.plot.heatmap` does.
    """
    choices: list[tuple[str, Any, Any]] = [("what", what, What), ("summary", summary, Summary)]
    for option, value, known in choices:
        if not (isinstance(value, str) and value in get_args(known)):
            raise OptionError(
                f"{option} must be {' or '.join(map(repr, get_args(known)))}, got {shown(value)}"
            )
    source = source_of(drawn, what)
    *shape, length, key_length = source.shape
    axes = (
        make_axis("query", length, query_labels, queries, most[0], longest),
        make_axis("key", key_length, key_labels, keys, most[1], longest),
    )
    items = batch_items(tuple(shape), batch)
    if most_together is not None:
        axes = _coarser(*axes, most_together // len(items))
    if names is None:
        names = [source.name(item) if len(items) > 1 else "" for item in items]
    else:
        names = as_names(names)
    if len(names) != len(items):
        raise ShapeError(f"names must have one name per panel, {len(items)}; got {len(names)}")
    entropy, key_mass = source.entropy(), source.key_mass()
    panels = [
        Panel(
            name,
            cells,
            mean_per_cell(entropy[item], axes[0]),
            mean_per_cell(key_mass[item], axes[1]),
        )
        for item, name, cells in zip(items, names, source.cells(items, *axes, summary), strict=True)
    ]
    if source.of_steps:
        axes = replace(axes[0], name="step"), axes[1]
    return Picture(what, summary, *axes, panels, float(np.log(key_length)))


def _coarser(queries: Axis, keys: Axis, most: int) -> tuple[Axis, Axis]:
    """Axes with cells large enough that there are at most `most` of them.

    >>> axis = make_axis("key", 600, None, None, 600)
    >>> [each.cells for each in _coarser(axis, axis, 250_000)]
    [300, 300]
    """
    while queries.cells * keys.cells > most:
        finer = max((queries, keys), key=lambda axis: axis.cells)
        coarser = replace(finer, step=finer.step + 1)
        queries, keys = (coarser if axis is finer else axis for axis in (queries, keys))
    return queries, keys


def batch_items(shape: tuple[int, ...], batch: Any) -> list[tuple[int, ...]]:
    """Batch items selected by an index into the batch axes, in order."""
    numbers = np.arange(np.prod(shape, dtype=np.intp)).reshape(shape)
    if batch is not None:
        try:
            numbers = numbers[batch]
        except (IndexError, ValueError):
            raise OptionError(f"batch: {shown(batch)} does not index batch axes {shape}") from None
    chosen = np.atleast_1d(numbers).ravel()
    if not len(chosen):
        raise OptionError("nothing to draw: there is no batch item")
    if len(chosen) > MOST_PANELS:
        raise OptionError(
            f"{len(chosen)} batch items are too many for one picture, which has up to "
            f"{MOST_PANELS}; choose some with batch=, an index into axes {shape}"
        )
    return [tuple(map(int, np.unravel_index(number, shape))) if shape else () for number in chosen]
