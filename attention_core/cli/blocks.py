"""Large calls in blocks of query rows, to show progress and limit memory.

Rows are independent: a block is the same attention, with the positions of its queries shifted by
`query_offset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from attention_core import Attention, AttentionResult
from attention_core.arrays.batch import broadcast_batch
from attention_core.arrays.inputs import as_array, as_integers, computing_dtype, is_sparse
from attention_core.masking.arguments import make_terms
from attention_core.masking.positions import end_offset
from attention_core.masking.sparse_masks import checked_edges
from attention_core.typing import Array

__all__ = ["attend_in_blocks"]

Extract = Callable[[AttentionResult], Mapping[str, Any]]
Allocate = Callable[[str, tuple[int, ...], np.dtype[Any]], Array]

# Pairs of a query and a key in a block: less than a second, and 64 MiB of float32 weights.
_PAIRS = 1 << 24
_LEAST_ROWS = 64  # matrix products of fewer rows are slow
_ROW_STEP = 256  # blocks of a multiple of this are divided into the tiles of the whole


def attend_in_blocks(
    attention: Attention,
    query: Array,
    key: Array,
    value: Array,
    *,
    extract: Extract,
    allocate: Allocate,
    progress: Callable[[int, int], None],
    mask: Any = None,
    bias: Array | None = None,
    key_lengths: Any = None,
    query_lengths: Any = None,
    rows: int | None = None,
) -> dict[str, Any]:
    """Attend in blocks of query rows; return the arrays that `extract` takes from the results.

    Parameters
    ----------
    extract
        A function from a result to named arrays (..., L, n), like the context, or (..., L). Sparse
        arrays are joined as `scipy.sparse.coo_array`.
    allocate
        Makes the array for a name, shape and dtype.
    progress
        A function of the number of finished rows and the number of all rows.
    rows
        The number of query rows in a block; chosen by default.
    """
    query, key, value = as_array("query", query), as_array("key", key), as_array("value", value)
    _, dtype = computing_dtype(query.dtype, key.dtype, value.dtype)  # a memory has no query dtype
    memory = attention.memory(key.astype(dtype, copy=False), value.astype(dtype, copy=False))
    options: dict[str, Any] = {"mask": mask, "bias": bias, "key_lengths": key_lengths}
    if query.ndim < 2:  # a single query is one block
        result = attention(query, memory, query_lengths=query_lengths, **options)
        return {name: _stored(name, part, allocate) for name, part in extract(result).items()}

    batch = broadcast_batch(query=query.shape, key=key.shape, value=value.shape)
    length, key_length = query.shape[-2], key.shape[-2]
    offset = attention.query_offset
    if is_sparse(mask):
        options["mask"] = mask = checked_edges(mask, (length, key_length))  # SciPy can slice CSR
    # Errors should show the shapes of the whole call, not of a block.
    make_terms(
        batch, length, key_length, query_lengths=query_lengths, query_offset=offset, **options
    )
    if isinstance(offset, str):  # "end"
        offset = end_offset(length, key_length, query_lengths, key_lengths)
    pieces = _Pieces((*batch, length), allocate)
    rows = rows or _rows_per_block(prod(batch) * key_length)
    for start in range(0, max(length, 1), rows):
        block = slice(start, min(start + rows, length))
        result = attention(
            query[..., block, :],
            memory,
            mask=_rows_of(mask, block, length),
            bias=_rows_of(bias, block, length),
            key_lengths=key_lengths,
            query_lengths=None if query_lengths is None else _less(query_lengths, start).clip(0),
            query_offset=_less(offset, -start),
        )
        for name, part in extract(result).items():
            pieces.add(name, part, block)
        progress(block.stop, length)
    return pieces.joined()


class _Pieces:
    """Arrays (..., L, n) or (..., L) that are joined from blocks of rows."""

    def __init__(self, shape: tuple[int, ...], allocate: Allocate) -> None:
        self.shape = shape  # (..., L)
        self.allocate = allocate
        self.dense: dict[str, Array] = {}
        self.edges: dict[str, list[tuple[Array, Array, tuple[int, ...]]]] = {}

    def add(self, name: str, part: Any, block: slice) -> None:
        if is_sparse(part):
            part = part.tocoo()
            coords = np.stack(part.coords)  # (axes, edges)
            coords[-2] += block.start
            shape = (*self.shape, part.shape[-1])
            self.edges.setdefault(name, []).append((part.data, coords, shape))
            return
        after = part.shape[len(self.shape) :]  # (n,) or nothing
        if name not in self.dense:
            self.dense[name] = self.allocate(name, self.shape + after, part.dtype)
        self.dense[name][(..., block, slice(None)) if after else (..., block)] = part

    def joined(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(self.dense)
        for name, parts in self.edges.items():
            from scipy.sparse import coo_array  # only sparse masks give sparse weights

            data, coords, shapes = zip(*parts, strict=True)
            places = tuple(np.concatenate(coords, axis=1))
            found[name] = coo_array((np.concatenate(data), places), shape=shapes[0])
        return found


def _rows_per_block(pairs_per_row: int) -> int:
    rows = max(_LEAST_ROWS, _PAIRS // max(pairs_per_row, 1))
    return rows - rows % _ROW_STEP if rows > _ROW_STEP else rows


def _rows_of(array: Any, block: slice, length: int) -> Any:
    """The rows of a block of a mask or bias, which may broadcast over the queries."""
    if array is None:
        return None
    if is_sparse(array):
        return array[block]
    return array[..., block, :] if array.ndim >= 2 and array.shape[-2] == length else array


def _less(positions: Any, start: int) -> Array:
    return as_integers("positions", positions) - start


def _stored(name: str, part: Any, allocate: Allocate) -> Any:
    if is_sparse(part):
        return part
    array = allocate(name, part.shape, part.dtype)
    array[...] = part
    return array
