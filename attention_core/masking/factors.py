"""Weight factors, which multiply the finished weights, and dropout as one kind of them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from attention_core.arguments import checked_arguments
from attention_core.arrays.batch import Batch, Item, Shape, take, with_batch_axes
from attention_core.arrays.scalars import as_float, is_integer
from attention_core.errors import OptionError, OptionTypeError, shown
from attention_core.masking.positions import Positions
from attention_core.typing import Array

__all__ = ["Dropout", "DropoutFactors", "Factors"]


class Factors(Protocol):
    """The weight factors of one call."""

    in_whole_batches: bool
    """Whether tiles must hold all batch items, as for a user's function."""

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """Factors that broadcast to the weights of these rows and keys, (..., l, s)."""

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The factors of pairs (e,) of a batch item."""


class Dropout:
    """Weight factors that are 0 for a random fraction of the weights, 1 / (1 - rate) for the rest.

    Given as ``weight_factors=``. Whether a weight is kept is a function of the seed, the batch
    item, the position of the query and the index of the key. It is the same for any tile, on tiles
    and on edges, for any number of workers, and when weights or gradients are computed later. Use
    another seed for every step of training.

    Parameters
    ----------
    rate : float
        The fraction of the weights to drop: at least 0 and below 1.
    seed : int
        At least 0 and below 2^63.

    Raises
    ------
    OptionTypeError, OptionError
        For anything else.

    Notes
    -----
    The generator is counter-based: queries and keys are hashed by SplitMix64 (Steele, Lea and
    Flood 2014, doi:10.1145/2660193.2660195), and the two by the finalizer of MurmurHash3.

    References
    ----------
    Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html. On attention weights:
    Vaswani et al. 2017, arXiv:1706.03762.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> x = np.zeros((2, 4))
    >>> ac.attend(x, x, x, scorer="dot", weight_factors=ac.Dropout(0.5, seed=1)).weights
    array([[1., 0.],
           [1., 1.]])
    """

    rate: float
    seed: int

    @checked_arguments
    def __init__(self, rate: float, seed: int) -> None:
        share = as_float(rate)
        if share is None:
            raise OptionTypeError(f"rate must be a number, got {shown(rate)}")
        if not 0 <= share < 1:
            raise OptionError(f"rate must be at least 0 and below 1, got {shown(rate)}")
        if not is_integer(seed):
            raise OptionTypeError(f"seed must be an integer, got {shown(seed)}")
        if not 0 <= seed < 1 << 63:
            raise OptionError(f"seed must be at least 0 and below 2^63, got {shown(seed)}")
        self.rate, self.seed = share, int(seed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dropout):
            return NotImplemented
        return (self.rate, self.seed) == (other.rate, other.seed)

    def __hash__(self) -> int:
        return hash((self.rate, self.seed))

    def __repr__(self) -> str:
        return f"Dropout(rate={self.rate!r}, seed={self.seed!r})"


class DropoutFactors:
    """The factors of `Dropout` in one call, for scores of a given shape."""

    in_whole_batches = False

    def __init__(self, dropout: Dropout, positions: Positions, shape: Shape) -> None:
        self.dropout, self.positions, self.batch = dropout, positions, shape[:-2]
        seed = _mixed(np.array(dropout.seed, np.uint64))
        self._query_seed, self._key_seed = _mixed(seed ^ _U64(1)), _mixed(seed ^ _U64(2))

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The factors of a tile."""
        queries, others = self.positions.of_tile(batch, rows, keys)
        count = int(np.prod(self.batch, dtype=np.int64))
        items = np.arange(count).reshape(*self.batch, 1, 1)
        queries = with_batch_axes(queries, self.batch)
        return self._factors(take(items, batch), queries, others, dtype)

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The factors of pairs (e,)."""
        places, others = self.positions.of_pairs(item, queries, keys)
        number = np.ravel_multi_index(item, self.batch) if item else 0
        return self._factors(np.array(number), places[:, 0], others[:, 0], dtype)

    def _factors(self, items: Array, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The factors of arrays that broadcast: a hash of 32 bits for each, and a threshold."""
        item = _mixed(items.astype(np.uint64) ^ self._query_seed)
        query = _mixed(item ^ _mixed(queries.astype(np.uint64)))
        key = _mixed(keys.astype(np.uint64) ^ self._key_seed)
        bits: Array = _low(query) ^ _low(key)
        bits ^= bits >> _U32(16)
        bits *= _U32(0x85EBCA6B)
        bits ^= bits >> _U32(13)
        bits += _low(query >> _U64(32))
        bits *= _U32(0xC2B2AE35)
        bits ^= bits >> _U32(16)
        kept = bits >= _U32(round(self.dropout.rate * 0xFFFFFFFF))
        factors: Array = kept * dtype.type(1 / (1 - self.dropout.rate))
        return factors


_U32, _U64 = np.uint32, np.uint64


def _low(numbers: Array) -> Array:
    return (numbers & _U64(0xFFFFFFFF)).astype(np.uint32)


def _mixed(numbers: Array) -> Array:
    """SplitMix64 of each number; overflow wraps around."""
    with np.errstate(over="ignore"):
        numbers = numbers + _U64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> _U64(27))) * _U64(0x94D049BB133111EB)
    mixed: Array = numbers ^ (numbers >> _U64(31))
    return mixed
