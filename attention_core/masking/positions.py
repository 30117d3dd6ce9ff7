"""Positions of queries and keys, as given to mask and bias functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from attention_core.arrays.batch import Batch, Item, Shape, broadcasts, of_item, take
from attention_core.arrays.inputs import LARGEST, as_integers, dtype_advice, is_real, to_numpy
from attention_core.errors import (
    DTypeError,
    OptionError,
    OptionTypeError,
    ShapeError,
    message_of,
    shown,
)
from attention_core.typing import Array, PairFunction

__all__ = ["ADVICE", "UNSHIFTED", "Positions", "called", "check_offsets", "end_offset", "evaluated"]

ADVICE = "to add numbers to the scores use bias=, to keep nonzero entries use mask != 0"
"""Advice about a mask that is not boolean."""


class Positions(NamedTuple):
    """Shifts from the index of a query or key to its position."""

    query_shift: int | Array = 0
    """`query_offset` minus the start of a packed sequence: one, or (batch or 1s, L or 1, 1)."""
    key_shift: Array | None = None
    """(S,): minus the start of a packed sequence; None without packed sequences."""

    def of_tile(self, batch: Batch, rows: slice, keys: slice) -> tuple[Array, Array]:
        """Positions of the queries (..., l, 1) and the keys (1, s) of a tile."""
        shift = self.query_shift
        queries = np.arange(rows.start, rows.stop)[:, None]
        positions = np.arange(keys.start, keys.stop)[None, :]
        if self.key_shift is not None:
            positions += self.key_shift[keys]
        return queries + (shift if isinstance(shift, int) else take(shift, batch, rows)), positions

    def of_pairs(self, item: Item, queries: Array, keys: Array) -> tuple[Array, Array]:
        """Positions of the queries and keys of pairs (e,) of a batch item: (e, 1) each."""
        shift: Any = self.query_shift
        if not isinstance(shift, int):
            shift = of_item(shift, item)[:, 0]  # (L,) or (1,)
            shift = shift[queries] if len(shift) > 1 else shift
        positions = keys + (0 if self.key_shift is None else self.key_shift[keys])
        return (queries + shift)[:, None], positions[:, None]


UNSHIFTED = Positions()
"""Positions equal to indices."""


def end_offset(
    length: int, key_length: int, query_lengths: Any = None, key_lengths: Any = None
) -> Any:
    """The offset that aligns the last query with the last key, per batch item if they differ.

    >>> end_offset(2, 5), end_offset(2, 5, key_lengths=[3, 9])
    (3, array([1, 3]))
    """
    queries = as_integers("query_lengths", length if query_lengths is None else query_lengths)
    keys = as_integers("key_lengths", key_length if key_lengths is None else key_lengths)
    queries, keys = np.minimum(queries, length), np.minimum(keys, key_length)  # of rows there are
    axes = max(queries.ndim, keys.ndim)  # leading batch axes
    queries, keys = (a.reshape(a.shape + (1,) * (axes - a.ndim)) for a in (queries, keys))
    return keys - queries if axes else int(keys - queries)


def check_offsets(given: Any, offsets: int | Array) -> None:
    """Raise `OptionError` for offsets at or beyond `LARGEST`, whose sums could overflow int64."""
    if np.any(offsets >= LARGEST) or np.any(offsets <= -LARGEST):
        raise OptionError(f"query_offset must be between -2**61 and 2**61, got {shown(given)}")


def called(name: str, function: PairFunction, queries: Array, keys: Array) -> Any:
    """Call a mask or bias function.

    Raises
    ------
    OptionTypeError
        For a function that does not take two arguments.
    """
    try:
        return function(queries, keys)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # from inside the function
        raise OptionTypeError(
            f"the {name} function must take (query_positions, key_positions): {message_of(error)}"
        ) from error


def evaluated(
    name: str, function: PairFunction, queries: Array, keys: Array, expected: Shape
) -> Array:
    """Evaluate a mask or bias function; its values broadcast to the expected shape.

    Raises
    ------
    DTypeError, ShapeError
        For values that a mask or a bias cannot have.
    """
    values = to_numpy(f"what the {name} function returned", called(name, function, queries, keys))
    if not broadcasts(values.shape, expected):
        raise ShapeError(
            f"the {name} function returned shape {values.shape} for query positions "
            f"{queries.shape} and key positions {keys.shape}; expected a shape that "
            f"broadcasts to (..., l, s) = {expected}"
        )
    if name == "mask" and values.dtype != np.bool_:
        raise DTypeError(
            f"the mask function must return booleans (True = may attend), "
            f"got dtype {values.dtype}; {ADVICE}"
        )
    if name != "mask" and not is_real(values.dtype):
        raise DTypeError(
            f"the {name} function must return real numbers, got dtype {values.dtype}"
            f"{dtype_advice(values)}"
        )
    return values
