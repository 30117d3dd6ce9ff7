"""The layers of the network besides attention, with their vector-Jacobian products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attention_core.typing import Array

__all__ = ["cross_entropy", "lookup_vjp", "softmax", "windows", "windows_vjp"]


def windows(rows: Array, radius: int) -> Array:
    """Concatenate each row with its neighbors, padded with zeros: (B, S, D) -> (B, S, (2r + 1) D).

    Examples
    --------
    >>> windows(np.array([[[1], [2], [3]]]), 1)[0]
    array([[0, 1, 2],
           [1, 2, 3],
           [2, 3, 0]])
    """
    length = rows.shape[1]
    wide = np.pad(rows, ((0, 0), (radius, radius), (0, 0)))  # (B, S + 2r, D)
    return np.concatenate([wide[:, n : n + length] for n in range(2 * radius + 1)], axis=-1)


def windows_vjp(grad: Array, radius: int) -> Array:
    """Gradients through `windows`: (B, S, (2r + 1) D) -> (B, S, D)."""
    batch, length, _ = grad.shape
    parts = np.split(grad, 2 * radius + 1, axis=-1)  # of (B, S, D)
    wide = np.zeros((batch, length + 2 * radius, parts[0].shape[-1]), grad.dtype)
    for n, part in enumerate(parts):
        wide[:, n : n + length] += part
    return wide[:, radius : radius + length]


def lookup_vjp(codes: NDArray[np.intp], grad: Array, size: int) -> Array:
    """Gradients through ``table[codes]``: (...), (..., D) -> (size, D)."""
    chosen = np.eye(size, dtype=grad.dtype)[codes.reshape(-1)]  # (n, size)
    return chosen.T @ grad.reshape(-1, grad.shape[-1])


def softmax(logits: Array) -> Array:
    """The softmax along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def cross_entropy(logits: Array, target: NDArray[np.intp]) -> tuple[float, Array]:
    """The mean of ``-log softmax(logits)[target]``, and its gradient: (..., n), (...)."""
    shares = softmax(logits)
    chosen = np.take_along_axis(shares, target[..., None], axis=-1)
    grad = shares.copy()
    np.put_along_axis(grad, target[..., None], chosen - 1, axis=-1)
    return float(-np.log(chosen + np.finfo(chosen.dtype).tiny).mean()), grad / target.size
