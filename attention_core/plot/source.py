"""The numbers of a picture, read from a result or from an array of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from attention_core.arrays.batch import whole
from attention_core.arrays.inputs import is_real, is_sparse
from attention_core.engine.base import Problem, Readout
from attention_core.engine.dispatch import Answer
from attention_core.errors import DTypeError, OptionError, ShapeError
from attention_core.plot.axis import Axis
from attention_core.plot.cells import Cells, Summary
from attention_core.typing import Array

__all__ = ["Attended", "Source", "What", "source_of"]

Item = tuple[int, ...]
What: TypeAlias = Literal["weights", "scores"]

_PAIRS = 1 << 20  # computed in one piece, where all would be too many to keep


class Attended(Protocol):
    """An `attention_core.AttentionResult`, or anything else that has a readout."""

    @property
    def _answer(self) -> Answer: ...

    @property
    def _readout(self) -> Readout: ...


@dataclass(frozen=True, slots=True)
class Source:
    """The numbers behind a picture."""

    shape: tuple[int, ...]
    """(..., L, S)"""
    fill: Callable[[Mapping[Item, Cells]], None]
    """Add the numbers of batch items to their cells."""
    entropy: Callable[[], Array]
    """(..., L)"""
    key_mass: Callable[[], Array]
    """(..., S)"""

    def cells(
        self, items: Iterable[Item], queries: Axis, keys: Axis, summary: Summary
    ) -> list[np.ma.MaskedArray[Any, Any]]:
        """The cells of some batch items."""
        cells = {item: Cells(queries, keys, summary) for item in items}
        with np.errstate(all="ignore"):  # NaN and Inf are to be seen, not warned of
            self.fill(cells)
            return [each.finished() for each in cells.values()]


def source_of(drawn: Any, what: What) -> Source:
    """Read a result, or weights (..., L, S): dense, masked or sparse.

    Raises
    ------
    DTypeError, ShapeError
        For anything else.
    OptionError
        For scores, when there are weights only.
    """
    if hasattr(drawn, "_readout"):
        return _of_readout(drawn._readout, drawn._answer.problem, what)
    if what == "scores":
        raise OptionError("scores can be drawn of a result only; an array is taken for weights")
    weights = drawn if is_sparse(drawn) else np.ma.asanyarray(drawn)
    if weights.ndim == 1 and not is_sparse(weights):
        weights = weights[None, :]
    if weights.ndim < 2:
        raise ShapeError(f"weights must have shape (..., L, S) or (S,), got {weights.shape}")
    if not is_real(weights.dtype):
        raise DTypeError(f"weights must be real numbers, got dtype {weights.dtype}")
    return _of_edges(weights) if is_sparse(weights) else _of_array(weights)


def _of_readout(readout: Readout, problem: Problem, what: What) -> Source:
    numbers = readout.weights if what == "weights" else readout.scores
    masking, shape = problem.masking, problem.shape
    if masking is not None and masking.edges is not None:
        return Source(shape, _filler_of_edges(numbers), readout.entropy, readout.key_mass)

    def read(rows: range) -> tuple[Array, Array]:
        place = whole(problem.batch), slice(rows.start, rows.stop), slice(0, shape[-1])
        allowed = None if masking is None else masking.allowed(*place)
        values = numbers(rows)
        return values, np.broadcast_to(True if allowed is None else allowed, values.shape)

    fill = partial(_fill_by_rows, read, prod(problem.batch) * shape[-1])
    return Source(shape, fill, readout.entropy, readout.key_mass)


def _of_array(weights: np.ma.MaskedArray[Any, Any]) -> Source:
    def read(rows: range) -> tuple[Array, Array]:
        part = weights[..., rows.start : rows.stop, :]
        return part.filled(0).astype(np.float64), ~np.ma.getmaskarray(part)

    def entropy() -> Array:
        found: Array = _terms(weights.filled(0).astype(np.float64)).sum(axis=-1)
        return found

    def key_mass() -> Array:
        found: Array = weights.filled(0).astype(np.float64).sum(axis=-2)
        return found

    fill = partial(_fill_by_rows, read, prod(weights.shape[:-2]) * weights.shape[-1])
    return Source(weights.shape, fill, entropy, key_mass)


def _of_edges(weights: Any) -> Source:
    def entropy() -> Array:
        edges = weights.tocoo(copy=True)
        edges.data = _terms(edges.data.astype(np.float64))
        return _summed(edges, axis=-1)

    return Source(
        weights.shape,
        _filler_of_edges(lambda: weights),
        entropy,
        lambda: _summed(weights.tocoo(), axis=-2),
    )


def _fill_by_rows(
    read: Callable[[range], tuple[Array, Array]], pairs_per_row: int, cells: Mapping[Item, Cells]
) -> None:
    """Read the chosen queries of all batch items in pieces of bounded memory."""
    some = next(iter(cells.values()))
    places, keys = some.queries.places, some.keys.index
    most = max(1, _PAIRS // pairs_per_row)
    for first, last in pairwise([0, *(np.flatnonzero(np.diff(places) != 1) + 1), len(places)]):
        for start in range(first, last, most):
            stop = min(start + most, last)
            values, allowed = read(range(places[start], places[start] + stop - start))
            for item, each in cells.items():
                each.add_rows(start, values[item][:, keys], allowed[item][:, keys])


def _filler_of_edges(numbers: Callable[[], Any]) -> Callable[[Mapping[Item, Cells]], None]:
    def fill(cells: Mapping[Item, Cells]) -> None:
        edges = numbers().tocoo()
        for item, each in cells.items():
            matrix = _of_item(edges, item).tocsr()
            each.add_edges(matrix[each.queries.places][:, each.keys.places])

    return fill


def _of_item(edges: Any, item: Item) -> Any:
    """The matrix (L, S) of a batch item of n-dimensional edges."""
    from scipy.sparse import coo_array  # imported already by who made the edges

    *batch, rows, columns = edges.coords
    kept = np.ones(len(edges.data), np.bool_)
    for coordinate, index in zip(batch, item, strict=True):
        kept &= coordinate == index
    return coo_array((edges.data[kept], (rows[kept], columns[kept])), shape=edges.shape[-2:])


def _terms(weights: Array) -> Array:
    """The terms of the entropy, ``-w log w``."""
    logs = np.log(weights, out=np.zeros_like(weights), where=weights != 0)
    return -weights * logs


def _summed(edges: Any, axis: int) -> Array:
    """Sums of edges over one of their axes."""
    kept = list(range(edges.ndim))
    del kept[axis]
    total = np.zeros([edges.shape[n] for n in kept])
    np.add.at(total, tuple(edges.coords[n] for n in kept), edges.data)
    return total
