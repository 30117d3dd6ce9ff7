"""Gradients through the hidden units of the additive score, in blocks that stay in cache."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attention_core.learned import buffer
from attention_core_standard.hidden_units import BLOCK_BYTES

__all__ = ["HiddenGradients", "hidden_gradients"]

Array = NDArray[Any]

# With at least this many keys, copying broadcast rows into NumPy's buffer costs more than it saves.
_MANY_KEYS = 256


class HiddenGradients(NamedTuple):
    """Sums over pairs of hidden units ``t_ijh = tanh(query_ih + key_jh)`` and their derivatives.

    Each pair is weighted by the gradient of its score, ``grad_ij``.
    """

    units: Array
    """``sum_ij grad_ij t_ijh``: (H,)"""
    query: Array
    """``sum_j grad_ij (1 - t_ijh^2)``: (..., L, H)"""
    key: Array
    """``sum_i grad_ij (1 - t_ijh^2)``: (..., S, H)"""


def hidden_gradients(
    query: Array, key: Array, grad: Array, *, use_exponentials: bool
) -> HiddenGradients:
    """The sums for a tile: (..., L, H), (..., S, H), (..., L, S).

    Parameters
    ----------
    use_exponentials
        Whether to compute t from ``e = exp(2 query)`` and ``f = exp(-2 key)``, which must not
        overflow: ``t / 2 = 1 / 2 - f / (e + f)``.

    Examples
    --------
    >>> hidden_gradients(
    ...     np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)), use_exponentials=True
    ... ).units
    array([0.76159416])
    """
    if query.shape[-2] > key.shape[-2]:  # both sides are alike; the longer one goes innermost
        units, by_key, by_query = hidden_gradients(
            key, query, grad.swapaxes(-1, -2), use_exponentials=use_exponentials
        )
        return HiddenGradients(units, by_query, by_key)
    key, grad = np.ascontiguousarray(key.swapaxes(-1, -2)), np.ascontiguousarray(grad)
    if use_exponentials:
        units, by_query, by_key = _in_blocks(np.exp(2 * query), np.exp(-2 * key), grad, halved=True)
        units, by_query, by_key = 2 * units, 4 * by_query, 4 * by_key
    else:
        units, by_query, by_key = _in_blocks(query, key, grad, halved=False)
    return HiddenGradients(units, by_query, by_key.swapaxes(-1, -2))


def _in_blocks(query: Array, key: Array, grad: Array, *, halved: bool) -> HiddenGradients:
    """The sums of t, or of t / 2 given the exponentials; with key and its result (..., H, S).

    Small batches are one block; the items of large ones are split into blocks of rows.
    """
    batch, length, (hidden, key_length) = grad.shape[:-2], query.shape[-2], key.shape[-2:]
    query = np.broadcast_to(query, (*batch, length, hidden))
    key = np.broadcast_to(key, (*batch, hidden, key_length))
    units = np.zeros(hidden, query.dtype)
    by_query, by_key = np.empty(query.shape, query.dtype), np.zeros(key.shape, key.dtype)
    items: list[Any] = [()]
    step, at_once = max(1, length), BLOCK_BYTES // grad.itemsize
    if grad.size * hidden > at_once:
        items, step = list(np.ndindex(batch)), max(1, at_once // (hidden * key_length))
    with np.errstate(all="ignore"):  # also gives the buffer size back
        if key_length >= _MANY_KEYS:
            np.setbufsize(16)  # the smallest
        for item in items:
            for first in range(0, length, step):
                rows: Any = (*item, ..., slice(first, first + step), slice(None))
                found = _block(query[rows], key[item], grad[rows], halved)
                units += found.units
                by_query[rows] = found.query
                by_key[item] += found.key
    return HiddenGradients(units, by_query, by_key)


def _block(query: Array, key: Array, grad: Array, halved: bool) -> HiddenGradients:
    (*batch, length, key_length), hidden = grad.shape, key.shape[-2]
    with buffer((*batch, length, hidden, key_length), query.dtype) as units:
        return _sums(query, key, grad, units, halved)


def _sums(query: Array, key: Array, grad: Array, units: Array, halved: bool) -> HiddenGradients:
    """The sums of a block, in the memory of units (..., L, H, S)."""
    (*batch, length, key_length), hidden = grad.shape, key.shape[-2]
    keys = key[..., None, :, :]  # (..., 1, H, S)
    np.add(query[..., None], keys, out=units)
    if halved:
        np.divide(keys, units, out=units)
        np.subtract(0.5, units, out=units)
    else:
        np.tanh(units, out=units)
    sums = np.matmul(units, grad[..., None])[..., 0]  # (..., L, H)
    np.multiply(units, units, out=units)
    np.subtract(0.25 if halved else 1.0, units, out=units)  # the derivatives
    np.multiply(units, grad[..., None, :], out=units)
    ones = np.ones(key_length, units.dtype)
    return HiddenGradients(
        sums.reshape(prod(batch) * length, hidden).sum(axis=0),
        # faster than a sum, and unlike matmul it releases the GIL even for few sums
        np.dot(units.reshape(prod(units.shape[:-1]), key_length), ones).reshape(units.shape[:-1]),
        units.sum(axis=-3),
    )
