"""Packed sequences: the rows of many sequences one after another, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.errors import DTypeError, OptionError, ShapeError
from attention_core.masking.masking import Batch, Masking
from attention_core.typing import Array

__all__ = ["PackedMasking", "Packing"]


class Packing:
    """Where packed sequences start: a mask by which each attends to itself alone.

    Given as ``mask=``, it makes one call attend within many sequences whose rows follow each
    other, (..., total L, Dq) and (..., total S, Dk), without padding. Positions - for causal order,
    windows and functions - count from the start of each sequence; `query_offset` is one integer,
    or one for each sequence. Work and memory are those of the sequences alone.

    Parameters
    ----------
    query_starts : (n + 1,) integers
        Where the queries of each of the n sequences start, from 0, and where the last one's end:
        the running sum of the lengths, called ``cu_seqlens`` elsewhere.
    key_starts : (n + 1,) integers
        The same for keys and values; those of the queries when left out.

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

    def __init__(self, query_starts: ArrayLike, key_starts: ArrayLike | None = None) -> None:
        self.query_starts = _starts("query_starts", query_starts)
        self.key_starts = (
            self.query_starts if key_starts is None else _starts("key_starts", key_starts)
        )
        if self.query_starts.shape != self.key_starts.shape:
            raise ShapeError(
                f"query_starts and key_starts must be as many, got {self.query_starts.shape} "
                f"and {self.key_starts.shape}"
            )

    @classmethod
    def from_lengths(
        cls, query_lengths: ArrayLike, key_lengths: ArrayLike | None = None
    ) -> Packing:
        """From the number of queries of each sequence, and of keys if it differs.

        Examples
        --------
        >>> Packing.from_lengths([2, 3]).query_starts
        array([0, 2, 5])
        """
        lengths = [query_lengths] if key_lengths is None else [query_lengths, key_lengths]
        return cls(*(np.concatenate([[0], np.cumsum(part)]) for part in lengths))

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.query_starts) - 1

    def __repr__(self) -> str:
        return f"Packing(query_starts={self.query_starts!r}, key_starts={self.key_starts!r})"


class PackedMasking(Masking):
    """The mask, bias and bounds of a call with packed sequences."""

    def __init__(
        self,
        batch: tuple[int, ...],
        length: int,
        key_length: int,
        *,
        mask: Packing,
        key_lengths: ArrayLike | None = None,
        query_lengths: ArrayLike | None = None,
        query_offset: Any = 0,
        **options: Any,
    ) -> None:
        if key_lengths is not None or query_lengths is not None:
            raise OptionError(
                "packed sequences have their lengths in their starts; "
                "leave key_lengths and query_lengths out"
            )
        super().__init__(batch, length, key_length, **options)
        for name, starts, rows in (
            ("query_starts", mask.query_starts, length),
            ("key_starts", mask.key_starts, key_length),
        ):
            if starts[-1] != rows:
                raise ShapeError(f"{name} must end at the number of rows, {rows}, got {starts[-1]}")
        self.packing = mask
        self.is_open = False
        sequences = np.arange(len(mask))
        self._query_sequence = np.repeat(sequences, np.diff(mask.query_starts))  # (L,)
        self._key_sequence = np.repeat(sequences, np.diff(mask.key_starts))  # (S,)
        self._offsets = _offsets(query_offset, len(mask))  # (n,)
        self._query_origins = mask.query_starts[:-1] - self._offsets  # where position 0 would be
        self._key_origins = mask.key_starts[:-1]

    @property
    def query_starts(self) -> list[int] | None:
        """Where the rows of each sequence start, and the last one's end."""
        starts: list[int] = self.packing.query_starts.tolist()
        return starts

    @property
    def is_one_band(self) -> bool:
        """Every sequence has a band of its own."""
        return False

    @property
    def pairs(self) -> int:
        """The number of query-key pairs within sequences."""
        return int(np.diff(self.packing.query_starts) @ np.diff(self.packing.key_starts))

    def key_spans(self, batch: Batch, rows: slice) -> list[slice]:
        """The keys of the sequences of these rows, within the band if it is one sequence."""
        first, last = self._query_sequence[rows.start], self._query_sequence[rows.stop - 1]
        start, stop = self.packing.key_starts[first], self.packing.key_starts[last + 1]
        if first < last:
            return [slice(int(start), int(stop))]
        shift = int(self._key_origins[first] - self._query_origins[first])
        return self.band.spans(int(start), int(stop), rows.start + shift, rows.stop - 1 + shift)

    def allowed(self, batch: Batch, rows: slice, keys: slice) -> Array | None:
        """Where these rows may attend to these keys, (l, s); None where they all may."""
        allowed = self._query_sequence[rows][:, None] == self._key_sequence[keys]
        if not self.band.is_open:
            allowed &= self.band.contains(*self._positions(batch, rows, keys))
        return None if allowed.all() else allowed

    def _positions(self, batch: Batch, rows: slice, keys: slice) -> tuple[Array, Array]:
        queries = np.arange(rows.start, rows.stop) - self._query_origins[self._query_sequence[rows]]
        positions = np.arange(keys.start, keys.stop) - self._key_origins[self._key_sequence[keys]]
        return queries[:, None], positions[None, :]


def _starts(name: str, value: ArrayLike) -> Array:
    starts = np.asarray(value)
    if starts.dtype.kind not in "iu":
        raise DTypeError(f"{name} must be integers, got dtype {starts.dtype}")
    if starts.ndim != 1 or len(starts) < 1:
        raise ShapeError(f"{name} must have shape (n + 1,), got {starts.shape}")
    starts = starts.astype(np.int64)
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ShapeError(f"{name} must begin at 0 and never decrease, got {starts.tolist()}")
    return starts


def _offsets(value: Any, count: int) -> Array:
    offsets = np.asarray(value)
    if offsets.dtype.kind not in "iu":
        raise DTypeError(f"query_offset must be integers, got dtype {offsets.dtype}")
    if offsets.shape not in ((), (count,)):
        raise ShapeError(
            f"query_offset must be one integer, or one for each of the {count} packed sequences, "
            f"got shape {offsets.shape}"
        )
    return np.broadcast_to(offsets.astype(np.int64), (count,))
