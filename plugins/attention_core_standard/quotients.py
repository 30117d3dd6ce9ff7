"""Sums of tanh over hidden units as quotients of matrix products, without a tanh per pair.

For a few hidden units together, give each a sign ``s_h`` of +1 or -1. Weighted by
``exp(sum_h s_h x_h)``, the signs are independent and each has the mean ``tanh(x_h)``, so that ::

    sum_h v_h tanh(x_h) = sum_s (sum_h v_h s_h) exp(s . x) / sum_s exp(s . x)

over all combinations of signs. With ``x = q_i + k_j`` a term is ``exp(s . q_i) exp(s . k_j)``:
numerator and denominator are matrix products of terms of the queries and terms of the keys, and
one division serves all units of the group. No term is negative, so the quotient is as exact as its
terms: its error is a few roundings of ``sum |v|``.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attention_core.learned import buffer

__all__ = ["GROUP", "sum_by_quotients"]

Array = NDArray[Any]

GROUP = 3
"""Hidden units per division; larger groups cost more in matrix products than they save."""

_SIGNS = np.array(list(product((1, -1), repeat=GROUP)))[:, ::-1]  # (2^GROUP, GROUP)
_TERMS = len(_SIGNS)
# Memory of the terms of a tile, and of the sums computed from them. Both fit the second-level cache
# of a core, and long operations let threads wait less for each other.
_BYTES = 3 << 19
# Matrix products are fast with this many rows, and sums with this many groups.
_ROWS, _FEWEST_GROUPS = 32, 8


def sum_by_quotients(query: Array, key: Array, weight: Array, out: Array) -> None:
    """Write ``sum_h weight_h tanh(query_ih + key_jh)``: (N, L, H), (N, S, H), (H,) to (N, L, S).

    ``exp(GROUP (|query_ih| + |key_jh|)) sum |weight|`` must not overflow.

    Examples
    --------
    >>> sums = np.empty((1, 1, 1))
    >>> sum_by_quotients(np.ones((1, 1, 2)), np.zeros((1, 1, 2)), np.array([1.0, 2.0]), sums)
    >>> sums / np.tanh(1)
    array([[[3.]]])
    """
    hidden = weight.shape[0]
    items, length, key_length = out.shape
    groups = -(-hidden // GROUP)
    at_once = _BYTES // (_TERMS * items * (2 * length + key_length) * out.itemsize)
    parts = -(-groups // max(_FEWEST_GROUPS, at_once))
    step = GROUP * -(-groups // parts)
    for first in range(0, hidden, step):
        units = slice(first, first + step)
        _add_groups(query[..., units], key[..., units], weight[units], out, is_first=first == 0)


def _add_groups(query: Array, key: Array, weight: Array, out: Array, *, is_first: bool) -> None:
    """Add the sums over some hidden units to (N, L, S), or write them if they are the first."""
    items, length, key_length = out.shape
    groups = -(-weight.shape[0] // GROUP)
    with (
        buffer((_TERMS, groups, items, key_length), out.dtype) as key_terms,
        # with the coefficients of numerator and denominator
        buffer((2, _TERMS, groups, items, length), out.dtype) as query_terms,
    ):
        factors_shape = (GROUP * groups * items * max(length, key_length),)
        with buffer(factors_shape, out.dtype) as factors:
            _find_terms(key, key_terms, factors)
            _find_terms(query, query_terms[1], factors)
        signed = np.zeros((GROUP, groups), weight.dtype)
        signed.reshape(-1)[: len(weight)] = weight
        coefficients = _SIGNS.astype(weight.dtype) @ signed  # (2^GROUP, G)
        np.multiply(query_terms[1], coefficients[..., None, None], out=query_terms[0])
        _add_quotients(query_terms, key_terms, out, is_first=is_first)


def _add_quotients(query_terms: Array, key_terms: Array, out: Array, *, is_first: bool) -> None:
    """Add the quotients of sums of terms to (N, L, S): (2, 2^GROUP, G, N, L), (2^GROUP, G, N, S).

    Works in blocks whose sums stay in cache.
    """
    items, length, key_length = out.shape
    groups = key_terms.shape[1]
    at_once = _BYTES // (2 * groups * out.itemsize)  # pairs whose sums are in memory
    columns = min(key_length, _in_full_lines(at_once // min(length, _ROWS)))
    rows = min(length, _in_full_lines(at_once // columns))
    together = 1  # items, if they fit whole
    if rows * columns == length * key_length:
        together = min(items, max(1, at_once // (rows * columns)))
    ones = np.ones(groups, out.dtype)
    with buffer((2 * groups * together * rows * columns,), out.dtype) as memory:
        for item, left, top in product(
            range(0, items, together), range(0, key_length, columns), range(0, length, rows)
        ):
            n = slice(item, min(item + together, items))
            r = slice(top, min(top + rows, length))
            c = slice(left, min(left + columns, key_length))
            shape = (2, n.stop - n.start, r.stop - r.start, groups, c.stop - c.start)
            sums = memory[: prod(shape)].reshape(shape)
            np.matmul(
                query_terms[..., n, r].transpose(0, 3, 2, 4, 1),  # (2, n, G, r, 2^GROUP)
                key_terms[..., n, c].transpose(2, 1, 0, 3),  # (n, G, 2^GROUP, c)
                out=sums.swapaxes(-2, -3),
            )
            np.divide(sums[0], sums[1], out=sums[0])
            if is_first:
                np.matmul(ones, sums[0], out=out[n, r, c])  # (G,) @ (n, r, G, c)
            else:
                out[n, r, c] += np.matmul(ones, sums[0])


def _in_full_lines(count: int) -> int:
    """The count, reduced so that rows of that length are aligned for vector loads."""
    return max(16, count // 16 * 16)


def _find_terms(array: Array, out: Array, factors: Array) -> None:
    """``exp(s . x)`` for all signs s of the units in a group: (N, n, H) to (2^GROUP, G, N, n).

    In the order of `_SIGNS`; `factors` is scratch memory.
    """
    items, length, hidden = array.shape
    groups = out.shape[1]
    factors = factors[: GROUP * out[0].size].reshape(GROUP * groups, items, length)
    factors[:hidden] = array.transpose(2, 0, 1)
    factors[hidden:] = 0  # padding of the last group
    np.exp(factors, out=factors)
    first, *others = factors.reshape(GROUP, *out.shape[1:])  # each (G, N, n)
    out[0] = first
    np.divide(1, first, out=out[1])
    for unit, factor in enumerate(others, 1):
        plus, minus = out[: 1 << unit], out[1 << unit : 2 << unit]
        np.divide(plus, factor, out=minus)
        np.multiply(plus, factor, out=plus)
