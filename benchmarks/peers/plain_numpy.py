"""Plain NumPy, without a library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from benchmarks.problems import Array, Inputs, Problem


def version() -> str:
    return np.__version__


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    if problem.edges:
        return lambda: graph(inputs)
    if problem.scorer == "additive":
        prepared = inputs.key @ inputs.key_weight if problem.is_prepared else None
        return lambda: additive(inputs, prepared)
    if problem.scorer in SCORES:
        return lambda: softmax(SCORES[problem.scorer](inputs)) @ inputs.value
    return lambda: scaled_dot(*inputs[:3], problem.is_causal)


def scaled_dot(query: Array, key: Array, value: Array, is_causal: bool) -> Array:
    scores = query @ key.swapaxes(-1, -2) / query.dtype.type(query.shape[-1] ** 0.5)
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -np.inf)
    context: Array = softmax(scores) @ value
    return context


def additive(inputs: Inputs, prepared: Array | None) -> Array:
    query = inputs.query @ inputs.query_weight
    key = inputs.key @ inputs.key_weight if prepared is None else prepared
    hidden = np.tanh(query[..., :, None, :] + key[..., None, :, :])
    context: Array = softmax(hidden @ inputs.score_weight) @ inputs.value
    return context


def laplacian(inputs: Inputs) -> Array:
    scores: Array = -np.abs(inputs.query[..., :, None, :] - inputs.key[..., None, :, :]).mean(-1)
    return scores


def rbf(inputs: Inputs) -> Array:
    difference = inputs.query[..., :, None, :] - inputs.key[..., None, :, :]
    scores: Array = -(difference**2).mean(-1)
    return scores


def gatv2(inputs: Inputs) -> Array:
    query, key = inputs.query @ inputs.query_weight, inputs.key @ inputs.key_weight
    hidden = query[..., :, None, :] + key[..., None, :, :]
    scores: Array = np.maximum(hidden, hidden.dtype.type(0.2) * hidden) @ inputs.score_weight
    return scores


SCORES = {"laplacian": laplacian, "rbf": rbf, "gatv2": gatv2}


def softmax(scores: Array) -> Array:
    weights: Array = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights


def graph(inputs: Inputs) -> Array:
    query, key = inputs.query @ inputs.query_weight, inputs.key @ inputs.key_weight
    rows, columns = inputs.edges
    starts = np.searchsorted(rows, np.arange(len(query) + 1))
    degrees = np.diff(starts)
    scores = np.tanh(query[rows] + key[columns]) @ inputs.score_weight
    weights = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts[:-1]), degrees))
    weights /= np.repeat(np.add.reduceat(weights, starts[:-1]), degrees)
    sparse = csr_array((weights, columns, starts), shape=(len(query), len(key)))
    context: Array = sparse @ inputs.value
    return context
