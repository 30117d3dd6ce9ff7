"""The blocks of a call: arrays whose chunks fit together, and the pairs of chunks to compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from dask.highlevelgraph import HighLevelGraph

from attention_core.arrays.batch import Shape
from attention_core.arrays.inputs import to_numpy
from attention_core.dask.placed import Place
from attention_core.dask.work import Block
from attention_core.errors import DTypeError, ShapeError
from attention_core.masking.masking import Masking
from attention_core.typing import Array

__all__ = ["Grid", "as_dask", "make_grid"]

Chunks = tuple[tuple[int, ...], ...]
Index = tuple[int, ...]
"""Index of a block of rows: the numbers of its chunk along the batch axes and along queries."""


def as_dask(name: str, array: Any) -> da.Array:
    """A dask array with known chunks of NumPy arrays; any other array becomes one chunk.

    Raises
    ------
    ShapeError
        For chunks of unknown size.
    DTypeError
        For chunks that are not NumPy arrays, for other Dask collections, and as `to_numpy`.
    """
    is_lazy = is_dask_collection(array)
    if is_lazy and not isinstance(getattr(array, "dask", None), HighLevelGraph):
        raise DTypeError(
            f"{name} is an array of Dask's query planning, which has no graph of tasks yet; call "
            f"dask.config.set({{'array.query-planning': False}}) before dask.array is imported"
        )
    if is_lazy and not isinstance(array, da.Array):
        raise DTypeError(f"{name} must be a dask array, got a dask {type(array).__name__}")
    if not is_lazy:
        own = to_numpy(name, array)
        return da.from_array(own, chunks=own.shape)
    if np.isnan([n for own in array.chunks for n in own]).any():
        raise ShapeError(
            f"{name} has chunks of unknown size, got shape {array.shape}; "
            f"call {name}.compute_chunk_sizes()"
        )
    if type(array._meta) is not np.ndarray:
        kind = type(array._meta)
        raise DTypeError(
            f"{name} must consist of NumPy arrays, got chunks of {kind.__module__}.{kind.__name__};"
            f" convert them with {name}.map_blocks"
        )
    return array


@dataclass(frozen=True)
class Grid:
    """Arrays whose chunks agree, and the blocks that they divide a call into."""

    arrays: tuple[da.Array | None, ...]
    """Query, key, value, mask, bias and weight factors; None where there are none."""
    batch: Chunks
    rows: tuple[int, ...]
    keys: tuple[int, ...]
    masking: Masking | None
    """The conditions that follow from positions, or are sparse."""
    edges: Any
    """The sparse mask, CSR (L, S), or None."""

    @cached_property
    def shape(self) -> Shape:
        """The shape of the scores: (..., L, S)."""
        return tuple(map(sum, (*self.batch, self.rows, self.keys)))

    @property
    def features(self) -> int:
        """The number of features of the values, Dv."""
        assert self.arrays[2] is not None
        return int(self.arrays[2].shape[-1])

    @cached_property
    def blocks(self) -> dict[Index, dict[int, Block]]:
        """The blocks of each chunk of rows, by the number of their chunk of keys.

        Those that no query can reach are omitted.
        """
        return {index: dict(self._reached(place)) for index, place in self.places.items()}

    @cached_property
    def places(self) -> dict[Index, Place]:
        """The place of each chunk of rows, with all keys."""
        axes = [_spans(own) for own in (*self.batch, self.rows)]
        numbers = product(*(range(len(own)) for own in axes))
        return {
            index: Place(self.shape, batch, rows, slice(0, self.shape[-1]))
            for index, (*outer, rows) in zip(numbers, product(*axes), strict=True)
            for batch in [tuple(outer)]
        }

    def key_of(self, position: int, index: Index, keys: int) -> Any:
        """The graph key of the block of an array for some rows and a chunk of keys."""
        array = self.arrays[position]
        if array is None:
            return None
        *batch, rows = index
        last = (rows, 0) if position == 0 else (keys, 0) if position < 3 else (rows, keys)
        every = (*batch, *last)
        own = every[len(every) - array.ndim :]
        parts = zip(own, array.numblocks, strict=True)
        return (array.name, *(0 if count == 1 else number for number, count in parts))

    def keys_of(self, index: Index, keys: int) -> list[Any]:
        """Graph keys of the query, the key with its value, the mask, the bias and the factors."""
        query, key, value, *others = [self.key_of(p, index, keys) for p in range(len(self.arrays))]
        both = [key, value] if self.pairs is None else (self.pairs.name, *key[1:])
        return [query, both, *others]

    @cached_property
    def pairs(self) -> da.Array | None:
        """Each chunk of keys with the chunk of values, as a tuple; None if batch axes differ.

        Dask fuses this layer with those that make the two, so one worker makes both.
        """
        _, key, value, *_ = self.arrays
        assert key is not None
        assert value is not None
        if key.chunks[:-1] != value.chunks[:-1]:
            return None
        axes = tuple(range(key.ndim))
        options = {"meta": key._meta, "align_arrays": False, "concatenate": True}
        return da.blockwise(pair, axes, key, axes, value, axes, **options)

    @cached_property
    def sources(self) -> list[da.Array]:
        """The arrays that blocks are made from."""
        query, key, value, *others = self.arrays
        both = [key, value] if self.pairs is None else [self.pairs]
        return [array for array in (query, *both, *others) if array is not None]

    def _reached(self, rows: Place) -> Iterator[tuple[int, Block]]:
        for number, keys in enumerate(_spans(self.keys)):
            place = Place(self.shape, rows.batch, rows.rows, keys)
            if 0 in place.block:
                continue
            if self.masking and not self.masking.spans(place.batch, place.rows, place.keys):
                continue
            edges = None
            if self.edges is not None:
                edges = self.edges[place.rows, place.keys]
                if not edges.nnz:
                    continue
            yield number, Block(place, edges)


def make_grid(
    arrays: list[da.Array | None], batch_axes: int, masking: Masking | None, edges: Any
) -> Grid:
    """Rechunk arrays to common chunks of batch axes, queries and keys; features are one chunk."""
    batch = tuple(range(batch_axes))
    last: list[tuple[Any, Any]] = [("L", "Dq"), ("S", "Dk"), ("S", "Dv"), *[("L", "S")] * 3]
    arguments: list[Any] = []
    for array, core in zip(arrays, last, strict=True):
        if array is not None:
            whole = array.rechunk({-1: -1}) if core[1] != "S" else array
            labels = (*batch, *core)
            arguments += [whole, labels[len(labels) - array.ndim :]]
    chunks, unified = da.core.unify_chunks(*arguments, warn=False)
    found = iter(unified)
    return Grid(
        tuple([None if array is None else next(found) for array in arrays]),
        tuple([chunks[axis] for axis in batch]),
        chunks["L"],
        chunks["S"],
        masking,
        edges,
    )


def pair(key: Array, value: Array) -> tuple[Array, Array]:
    """A chunk of keys and the chunk of their values."""
    return key, value


def _spans(chunks: tuple[int, ...]) -> list[slice]:
    """The ranges of chunks.

    >>> _spans((2, 3))
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return [slice(a, b) for a, b in pairwise(accumulate(chunks, initial=0))]
