"""The numbers of a picture, read from results or from an array of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.batch import whole
from attention_core.arrays.inputs import is_real, is_sparse, to_numpy
from attention_core.arrays.quiet import quiet_context
from attention_core.arrays.sparse import checked_sparse
from attention_core.engine.base import Problem, Readout
from attention_core.engine.dispatch import Answer
from attention_core.errors import DTypeError, OptionError, ShapeError
from attention_core.plot.axis import Axis
from attention_core.plot.cells import Cells, Summary
from attention_core.typing import Array

__all__ = ["Attended", "Drawn", "OfHeads", "Source", "What", "source_of"]

Item = tuple[int, ...]
What: TypeAlias = Literal["weights", "scores"]

_PAIRS = 1 << 20  # computed at a time


class Attended(Protocol):
    """An `attention_core.AttentionResult`, or anything else that has a readout."""

    context: Array

    @property
    def _answer(self) -> Answer: ...

    @property
    def _readout(self) -> Readout: ...


class OfHeads(Protocol):
    """An `attention_core.MultiHeadResult`: a result for each group of heads."""

    @property
    def attention(self) -> Sequence[Attended]:
        """(..., heads, L, S) each."""

    @property
    def groups(self) -> Sequence[Any]:
        """The heads of each result, as `heads`."""

    @property
    def entropy(self) -> Array:
        """Of all heads: (..., N, L)."""

    @property
    def key_mass(self) -> Array:
        """Of all heads: (..., N, S)."""


Drawn: TypeAlias = Attended | OfHeads | Sequence[Attended | OfHeads] | ArrayLike


@dataclass(frozen=True, slots=True)
class Source:
    """The numbers behind a picture."""

    shape: tuple[int, ...]
    """(..., L, S)"""
    rows: Callable[[range], tuple[Array, Array]]
    """Numbers of some queries, and which of them are allowed: (..., l, S) each."""
    fill: Callable[[Mapping[Item, Cells]], None]
    """Add the numbers of batch items to their cells."""
    entropy: Callable[[], Array]
    """(..., L)"""
    key_mass: Callable[[], Array]
    """(..., S)"""
    of_steps: bool = False
    """Whether each query is a step of a decoder."""
    of_heads: bool = False
    """Whether the last batch axis has the heads of a layer."""

    def name(self, item: Item) -> str:
        """The name of a batch item among others: its index, or its head."""
        if not self.of_heads:
            return str(list(item))
        *batch, head = item
        return f"{batch} head {head}" if batch else f"head {head}"

    def cells(
        self, items: Iterable[Item], queries: Axis, keys: Axis, summary: Summary
    ) -> list[np.ma.MaskedArray[Any, Any]]:
        """The cells of some batch items."""
        cells = {item: Cells(queries, keys, summary) for item in items}
        return quiet_context().run(self._filled, cells)  # NaN and Inf are shown, not reported

    def _filled(self, cells: Mapping[Item, Cells]) -> list[np.ma.MaskedArray[Any, Any]]:
        self.fill(cells)
        return [each.finished() for each in cells.values()]


def source_of(drawn: Any, what: What) -> Source:
    """Read a result, the steps of a decoder, or weights (..., L, S): dense, masked or sparse.

    Raises
    ------
    DTypeError, ShapeError
        For anything else.
    OptionError
        For scores, when there are weights only.
    """
    if hasattr(drawn, "groups"):
        return _of_heads(drawn, what)
    if hasattr(drawn, "_readout"):
        return _of_readout(drawn._readout, drawn._answer.problem, drawn.context.dtype, what)
    if isinstance(drawn, (list, tuple)) and drawn and all(map(_is_step, drawn)):
        return _of_steps([source_of(step, what) for step in drawn])
    if what == "scores":
        raise OptionError("scores can be drawn from a result only; an array is taken as weights")
    if is_sparse(drawn):
        weights = checked_sparse("weights", drawn)
    elif isinstance(drawn, np.ma.MaskedArray):
        weights = drawn
    else:
        weights = np.ma.asanyarray(to_numpy("weights", drawn))
    if weights.ndim == 1:
        weights = weights[None, :]
    if weights.ndim < 2:
        raise ShapeError(f"weights must have shape (..., L, S) or (S,), got {weights.shape}")
    if not is_real(weights.dtype):
        raise DTypeError(f"weights must be real numbers, got dtype {weights.dtype}")
    return _of_edges(weights) if is_sparse(weights) else _of_array(weights)


def _is_step(step: Any) -> bool:
    """Whether this is a result or the weights of a step; lists of numbers form one array."""
    is_array = isinstance(step, np.ndarray) and step.ndim == 1
    return is_array or hasattr(step, "groups") or hasattr(step, "_readout")


def _of_readout(readout: Readout, problem: Problem, dtype: np.dtype[Any], what: What) -> Source:
    masking, shape = problem.masking, problem.shape

    def numbers(rows: range | None = None) -> Any:
        found = readout.weights(rows) if what == "weights" else readout.scores(rows)
        # SciPy's sparse arrays do not support half precision
        return found if is_sparse(found) else found.astype(dtype, copy=False)

    if masking is not None and masking.is_sparse:
        fill = _filler_of_edges(numbers)

        def read_edges(rows: range) -> tuple[Array, Array]:
            return _in_rows(numbers(rows), range(len(rows)))

        return Source(shape, read_edges, fill, readout.entropy, readout.key_mass)

    def read(rows: range) -> tuple[Array, Array]:
        place = whole(problem.batch), slice(rows.start, rows.stop), slice(0, shape[-1])
        allowed = None if masking is None else masking.allowed(*place)
        values = numbers(rows)
        return values, np.broadcast_to(True if allowed is None else allowed, values.shape)

    fill = partial(_fill_by_rows, read, prod(problem.batch) * shape[-1])
    return Source(shape, read, fill, readout.entropy, readout.key_mass)


def _of_heads(drawn: OfHeads, what: What) -> Source:
    """The heads of a layer in order, (..., N, L, S), from the results of its groups."""
    sources = [source_of(result, what) for result in drawn.attention]
    places = {
        head: (source, own)
        for source, group in zip(sources, drawn.groups, strict=True)
        for own, head in enumerate(group.heads)
    }
    order = np.argsort(np.concatenate([group.heads for group in drawn.groups]))
    *batch, _, length, key_length = sources[0].shape

    def read(rows: range) -> tuple[Array, Array]:
        parts = zip(*[source.rows(rows) for source in sources], strict=True)
        values, allowed = (np.concatenate(part, axis=-3).take(order, -3) for part in parts)
        return values, allowed

    def fill(cells: Mapping[Item, Cells]) -> None:
        for source in sources:
            own = {
                (*item[:-1], places[item[-1]][1]): each
                for item, each in cells.items()
                if places[item[-1]][0] is source
            }
            if own:
                source.fill(own)

    shape = (*batch, len(order), length, key_length)
    return Source(shape, read, fill, lambda: drawn.entropy, lambda: drawn.key_mass, of_heads=True)


def _of_steps(steps: Sequence[Source]) -> Source:
    """The steps of a decoder as rows; keys that a step did not have are masked in it."""
    batch = steps[0].shape[:-2]
    for step in steps:
        if step.shape[:-2] != batch:
            raise ShapeError(
                f"steps must have the same batch axes, got {batch} and {step.shape[:-2]}"
            )
    ends = np.cumsum([step.shape[-2] for step in steps])
    key_length = max(step.shape[-1] for step in steps)

    def padded(array: Array) -> Array:
        missing = key_length - array.shape[-1]
        return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])

    def read(rows: range) -> tuple[Array, Array]:
        parts = []
        for step, end in zip(steps, ends.tolist(), strict=True):
            first = end - step.shape[-2]
            own = range(max(rows.start - first, 0), min(rows.stop, end) - first)
            if own:
                parts.append([padded(part) for part in step.rows(own)])
        values, allowed = (np.concatenate(part, axis=-2) for part in zip(*parts, strict=True))
        return values, allowed

    def entropy() -> Array:
        return np.concatenate([step.entropy() for step in steps], axis=-1)

    def key_mass() -> Array:
        mass: Array = np.sum([padded(step.key_mass()) for step in steps], axis=0)
        return mass

    fill = partial(_fill_by_rows, read, prod(batch) * key_length)
    shape = (*batch, int(ends[-1]), key_length)
    of_heads = steps[0].of_heads
    return Source(shape, read, fill, entropy, key_mass, of_steps=True, of_heads=of_heads)


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
    return Source(weights.shape, read, fill, entropy, key_mass)


def _of_edges(weights: Any) -> Source:
    def entropy() -> Array:
        edges = weights.tocoo(copy=True)
        edges.data = _terms(edges.data.astype(np.float64))
        return _summed(edges, axis=-1)

    return Source(
        weights.shape,
        partial(_in_rows, weights),
        _filler_of_edges(lambda: weights),
        entropy,
        lambda: _summed(weights.tocoo(), axis=-2),
    )


def _in_rows(edges: Any, rows: range) -> tuple[Array, Array]:
    """Some rows of edges as dense values, 0 where there is no edge, and whether there is one."""
    edges = edges.tocoo()
    *batch, row, column = edges.coords
    inside = (row >= rows.start) & (row < rows.stop)
    place = tuple(axis[inside] for axis in (*batch, row - rows.start, column))
    values = np.zeros((*edges.shape[:-2], len(rows), edges.shape[-1]))
    allowed = np.zeros(values.shape, np.bool_)
    np.add.at(values, place, edges.data[inside])
    allowed[place] = True
    return values, allowed


def _fill_by_rows(
    read: Callable[[range], tuple[Array, Array]], pairs_per_row: int, cells: Mapping[Item, Cells]
) -> None:
    """Read the chosen queries of all batch items in blocks of bounded memory."""
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
    from scipy.sparse import coo_array  # already imported, since the edges are sparse

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
