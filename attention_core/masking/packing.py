"""Packed sequences: the rows of many sequences one after another, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.batch import Shape
from attention_core.arrays.inputs import LARGEST, as_integers
from attention_core.arrays.scalars import is_end
from attention_core.errors import OptionError, ShapeError
from attention_core.masking.condition import MaskObject
from attention_core.masking.intervals import Intervals
from attention_core.masking.positions import Positions, check_offsets
from attention_core.typing import Array

__all__ = ["Packed", "Packing"]


class Packing(MaskObject):
    """The starts of packed sequences: a mask with which each sequence attends only to itself.

    Given as ``mask=``, it makes a call attend within each of many concatenated sequences,
    (..., total L, Dq) and (..., total S, Dk), without padding. Positions, for causal order, windows
    and functions, count from the start of each sequence; `query_offset` is one integer, or one for
    each sequence. Work and memory are those of the separate sequences.

    Parameters
    ----------
    query_starts : (n + 1,) integers
        The first query of each of the n sequences, beginning with 0, and the total length: the
        cumulative sum of the lengths, also called ``cu_seqlens``.
    key_starts : (n + 1,) integers
        The same for keys and values; equal to `query_starts` by default.

    Raises
    ------
    DTypeError
        For starts that are not integers.
    ShapeError
        For starts that do not begin at 0, decrease, or do not agree on n.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> rows = np.ones((5, 2))
    >>> packing = ac.Packing([0, 2, 5])  # two sequences, of 2 and 3 rows
    >>> ac.attend(rows, rows, rows, scorer="dot", mask=packing).weights.round(2)
    array([[0.5 , 0.5 , 0.  , 0.  , 0.  ],
           [0.5 , 0.5 , 0.  , 0.  , 0.  ],
           [0.  , 0.  , 0.33, 0.33, 0.33],
           [0.  , 0.  , 0.33, 0.33, 0.33],
           [0.  , 0.  , 0.33, 0.33, 0.33]])
    """

    @checked_arguments
    def __init__(self, query_starts: ArrayLike, key_starts: ArrayLike | None = None) -> None:
        self.query_starts = _starts("query_starts", query_starts)
        self.key_starts = (
            self.query_starts if key_starts is None else _starts("key_starts", key_starts)
        )
        if self.query_starts.shape != self.key_starts.shape:
            raise ShapeError(
                f"query_starts and key_starts must have the same length, "
                f"got {self.query_starts.shape} "
                f"and {self.key_starts.shape}"
            )

    @classmethod
    @checked_arguments
    def from_lengths(
        cls, query_lengths: ArrayLike, key_lengths: ArrayLike | None = None
    ) -> Packing:
        """Make a packing from the number of queries of each sequence, and of keys if it differs.

        Examples
        --------
        >>> Packing.from_lengths([2, 3]).query_starts
        array([0, 2, 5])
        """
        starts = _running_sum("query_lengths", query_lengths)
        if key_lengths is None:
            return cls(starts)
        return cls(starts, _running_sum("key_lengths", key_lengths))

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.query_starts) - 1

    def __repr__(self) -> str:
        return f"Packing(query_starts={self.query_starts!r}, key_starts={self.key_starts!r})"


class Packed:
    """The packed sequences of one call: intervals of keys, and positions within sequences.

    Parameters
    ----------
    packing
        The starts of the sequences.
    shape
        (..., L, S) of the call.
    query_offset
        One integer, one for each sequence, or ``"end"``.

    Raises
    ------
    DTypeError, ShapeError
        For starts and offsets that do not fit the call.
    """

    def __init__(self, packing: Packing, shape: Shape, query_offset: Any) -> None:
        *batch, length, key_length = shape
        for name, starts, rows in (
            ("query_starts", packing.query_starts, length),
            ("key_starts", packing.key_starts, key_length),
        ):
            if starts[-1] != rows:
                raise ShapeError(f"{name} must end at the number of rows, {rows}, got {starts[-1]}")
        lengths, key_lengths = np.diff(packing.query_starts), np.diff(packing.key_starts)
        if is_end(query_offset):
            query_offset = key_lengths - lengths
        offsets = _offsets(query_offset, len(packing))  # (n,)
        self.starts: list[int] = packing.query_starts.tolist()
        self.pair_count = int(lengths @ key_lengths)
        """The number of query-key pairs within sequences."""
        axes = (*(1 for _ in batch), length, 1)
        sequences = np.repeat(np.arange(len(packing)), lengths)  # (L,)
        query_shift = (offsets - packing.query_starts[:-1])[sequences].reshape(axes)
        self.positions = Positions(query_shift, -np.repeat(packing.key_starts[:-1], key_lengths))
        self._start = packing.key_starts[sequences].reshape(axes)
        self._stop = packing.key_starts[1:][sequences].reshape(axes)

    def intervals(self, lowest: int | None, highest: int | None) -> Intervals:
        """The keys of each query: those of its sequence, from `lowest` to `highest` around it."""
        start, stop = self._start, self._stop
        index = np.arange(start.shape[-2])[:, None]
        origin = start + self.positions.query_shift + index  # the key at the query's position
        if lowest is not None:
            start = np.maximum(start, origin + max(lowest, -2 * LARGEST))
        if highest is not None:
            stop = np.minimum(stop, origin + min(highest, 2 * LARGEST) + 1)
        return Intervals(start, stop)


def _running_sum(name: str, value: ArrayLike) -> Array:
    """The starts (n + 1,) of sequences of these lengths (n,)."""
    lengths = as_integers(name, value)
    if lengths.ndim != 1:
        raise ShapeError(f"{name} must have shape (n,), got {lengths.shape}")
    if (lengths < 0).any():
        raise OptionError(f"{name} must be at least 0, got {lengths.min()}")
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def _starts(name: str, value: ArrayLike) -> Array:
    starts = as_integers(name, value)
    if starts.ndim != 1 or len(starts) < 1:
        raise ShapeError(f"{name} must have shape (n + 1,), got {starts.shape}")
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ShapeError(f"{name} must begin at 0 and never decrease, got {starts.tolist()}")
    return starts


def _offsets(value: Any, count: int) -> Array:
    offsets = as_integers("query_offset", value)
    check_offsets(value, offsets)
    if offsets.shape not in ((), (count,)):
        raise ShapeError(
            f"query_offset must be one integer, or one for each of the {count} packed sequences, "
            f"got shape {offsets.shape}"
        )
    return np.broadcast_to(offsets, (count,))
