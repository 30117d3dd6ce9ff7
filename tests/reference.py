"""The oracle: attention written as three loops over Python floats.

It is slow and obvious on purpose. It shares nothing with the engine, so a mistake goes unnoticed
only if it is made twice, in different ways. `test_reference.py` checks it against SciPy and numbers
computed by hand.

Everything is computed in float64, in the order of the specification:

    score -> softcap -> + bias -> mask -> softmax -> weighted sum of values
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Reference", "additive", "attend", "dot", "general", "scaled_dot"]

Floats = NDArray[np.float64]
Score = Callable[[list[float], list[float]], float]


def dot(query: list[float], key: list[float]) -> float:
    """q . k"""
    return sum(q * k for q, k in zip(query, key, strict=True))


def scaled_dot(scale: float | None = None) -> Score:
    """q . k * scale, where scale is 1 / sqrt(D) unless given."""

    def score(query: list[float], key: list[float]) -> float:
        factor = 1.0 / math.sqrt(len(query)) if scale is None else scale
        return dot(query, key) * factor

    return score


def general(weight: ArrayLike) -> Score:
    """q^T W k, with W (Dq, Dk)."""
    rows = np.asarray(weight, np.float64).tolist()

    def score(query: list[float], key: list[float]) -> float:
        return sum(q * w * k for q, row in zip(query, rows, strict=True)
                   for w, k in zip(row, key, strict=True))  # fmt: skip

    return score


def gaussian(scale: ArrayLike) -> Score:
    """-sum_d (a_d (q_d - k_d))^2, with a (D)."""
    scales = np.asarray(scale, np.float64).tolist()

    def score(query: list[float], key: list[float]) -> float:
        return -sum((a * (q - k)) ** 2 for a, q, k in zip(scales, query, key, strict=True))

    return score


def additive(
    query_weight: ArrayLike,
    key_weight: ArrayLike,
    score_weight: ArrayLike,
    bias: ArrayLike | None = None,
) -> Score:
    """v . tanh(q Wq + k Wk + b), with Wq (Dq, H), Wk (Dk, H), b (H), v (H)."""
    wq = np.asarray(query_weight, np.float64).tolist()
    wk = np.asarray(key_weight, np.float64).tolist()
    v = np.asarray(score_weight, np.float64).tolist()
    b = [0.0] * len(v) if bias is None else np.asarray(bias, np.float64).tolist()

    def score(query: list[float], key: list[float]) -> float:
        total = 0.0
        for h in range(len(v)):
            hidden = b[h]
            hidden += sum(q * row[h] for q, row in zip(query, wq, strict=True))
            hidden += sum(k * row[h] for k, row in zip(key, wk, strict=True))
            total += v[h] * math.tanh(hidden)
        return total

    return score


@dataclass(frozen=True)
class Reference:
    """The expected result of `attend`, and the pairs that the mask allowed."""

    context: Floats  # (..., L, Dv)
    weights: Floats  # (..., L, S)
    log_normalizer: Floats  # (..., L)
    scores: Floats  # (..., L, S), -inf where masked
    entropy: Floats  # (..., L), in nats
    key_mass: Floats  # (..., S)
    allowed: NDArray[np.bool_]  # (..., L, S)

    def top_k(self, n: int) -> tuple[NDArray[np.intp], Floats]:
        """The n largest weights of each row, largest first; equal weights in order of the keys."""
        order = np.argsort(-self.weights, axis=-1, kind="stable")[..., :n]  # (..., L, n)
        return order, np.take_along_axis(self.weights, order, -1)

    def without_query_axis(self) -> Reference:
        """The result of a 1-D query: one row, without its axis."""
        return Reference(
            self.context[..., 0, :],
            self.weights[..., 0, :],
            self.log_normalizer[..., 0],
            self.scores[..., 0, :],
            self.entropy[..., 0],
            self.key_mass,
            self.allowed[..., 0, :],
        )


def attend(
    query: Any,
    key: Any,
    value: Any,
    *,
    score: Score,
    mask: Any = None,
    bias: Any = None,
    key_lengths: Any = None,
    query_lengths: Any = None,
    is_causal: bool = False,
    query_offset: Any = 0,
    window: tuple[float | None, float | None] | None = None,
    softcap: float | None = None,
) -> Reference:
    """Attention, one number at a time. The arguments are those of `attention_core.attend`."""
    q, k, v = (np.asarray(array).astype(np.float64) for array in (query, key, value))
    if q.ndim == 1:
        mask, bias = (_with_query_axis(extra) for extra in (mask, bias))
        return attend(
            q[None, :], k, v, score=score, mask=mask, bias=bias, key_lengths=key_lengths,
            query_lengths=query_lengths, is_causal=is_causal, query_offset=query_offset,
            window=window, softcap=softcap,
        ).without_query_axis()  # fmt: skip

    batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    n_queries, n_keys, n_values = q.shape[-2], k.shape[-2], v.shape[-1]
    places = (*batch, n_queries, n_keys)
    q = np.broadcast_to(q, batch + q.shape[-2:])
    k = np.broadcast_to(k, batch + k.shape[-2:])
    v = np.broadcast_to(v, batch + v.shape[-2:])
    offsets = _one_per_item(query_offset, batch)
    key_lengths = _one_per_item(n_keys if key_lengths is None else key_lengths, batch)
    query_lengths = _one_per_item(n_queries if query_lengths is None else query_lengths, batch)
    left, right = (math.inf if side is None else side for side in window or (None, None))

    offset_of_row = query_offset if np.ndim(query_offset) == 0 else offsets[..., None, None]
    positions = (np.arange(n_queries)[:, None] + offset_of_row, np.arange(n_keys)[None, :])
    mask_at = np.broadcast_to(True if mask is None else _evaluate(mask, positions), places)
    bias_at = np.broadcast_to(0.0 if bias is None else _evaluate(bias, positions), places)

    scores = np.full(places, -math.inf)
    weights = np.zeros(places)
    allowed = np.zeros(places, bool)
    log_normalizer = np.full(places[:-1], -math.inf)
    entropy = np.zeros(places[:-1])
    context = np.zeros((*batch, n_queries, n_values))
    key_mass = np.zeros((*batch, n_keys))

    for item in np.ndindex(*batch):
        for i in range(n_queries):
            place = int(offsets[item]) + i
            for j in range(n_keys):
                allowed[*item, i, j] = (
                    mask_at[*item, i, j]
                    and j < key_lengths[item]
                    and i < query_lengths[item]
                    and (not is_causal or j <= place)
                    and place - left <= j <= place + right
                )
                if allowed[*item, i, j]:
                    s = score(q[*item, i].tolist(), k[*item, j].tolist())
                    if softcap is not None:
                        s = softcap * math.tanh(s / softcap)
                    scores[*item, i, j] = s + float(bias_at[*item, i, j])

            keys = [j for j in range(n_keys) if allowed[*item, i, j]]
            row, total = _softmax([float(scores[*item, i, j]) for j in keys])
            log_normalizer[*item, i] = total
            for j, w in zip(keys, row, strict=True):
                weights[*item, i, j] = w
                key_mass[*item, j] += w
                entropy[*item, i] -= w * math.log(w) if w != 0.0 else 0.0
            for c in range(n_values):
                terms = [w * float(v[*item, j, c]) for j, w in zip(keys, row, strict=True)]
                context[*item, i, c] = sum(terms)

    return Reference(context, weights, log_normalizer, scores, entropy, key_mass, allowed)


def _softmax(scores: list[float]) -> tuple[list[float], float]:
    """The weights of the allowed keys of one row, and the logarithm of their normalizer."""
    if any(math.isnan(s) or s == math.inf for s in scores):
        return [math.nan] * len(scores), math.nan
    peak = max(scores, default=-math.inf)
    if peak == -math.inf:  # nothing allowed, or only -inf
        return [0.0] * len(scores), -math.inf
    exponentials = [math.exp(s - peak) for s in scores]
    total = sum(exponentials)
    return [e / total for e in exponentials], peak + math.log(total)


def _one_per_item(numbers: Any, batch: tuple[int, ...]) -> NDArray[Any]:
    """Spread numbers over the batch; their axes are its leading axes: (B,) fits (B, heads)."""
    array = np.asarray(numbers)
    trailing = (1,) * (len(batch) - array.ndim) if array.ndim else ()
    return np.broadcast_to(array.reshape(array.shape + trailing), batch)


def _with_query_axis(extra: Any) -> Any:
    """A mask or bias for a 1-D query has the shape of the weights, (..., S)."""
    if extra is None or callable(extra) or hasattr(extra, "tocoo"):
        return extra
    array = np.asarray(extra)
    return array[..., None, :] if array.ndim else array


def _evaluate(extra: Any, positions: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[Any]:
    """A mask or bias as an array; stored entries of a sparse mask are True unless False."""
    if callable(extra):
        return np.asarray(extra(*positions))
    if hasattr(extra, "tocoo"):
        edges = extra.tocoo()
        dense = np.zeros(extra.shape, bool)
        for i, j, entry in zip(*edges.coords, edges.data, strict=True):
            dense[i, j] |= bool(entry) or edges.dtype != np.bool_
        return dense
    return np.asarray(extra)
