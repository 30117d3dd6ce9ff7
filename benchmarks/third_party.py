"""Scorers as third parties write them: a function of two rows, in a few lines."""

from __future__ import annotations

from typing import Any

import numpy as np

import attention_core as ac
from benchmarks.problems import Array, Inputs

__all__ = ["THIRD_PARTY"]


class Laplacian(ac.PairScorer):
    """score = -|q - k|_1 / D."""

    @staticmethod
    def pair(q: Array, k: Array) -> Any:
        total = 0.0
        for d in range(len(q)):
            total += abs(q[d] - k[d])
        return -total / len(q)


class RBF(ac.PairScorer):
    """score = -|q - k|^2 / D."""

    @staticmethod
    def pair(q: Array, k: Array) -> Any:
        total = 0.0
        for d in range(len(q)):
            total += (q[d] - k[d]) ** 2
        return -total / len(q)


class GATv2(ac.PairScorer):
    """score = v . LeakyReLU(W_q^T q + W_k^T k)."""

    def __init__(self, query_weight: Array, key_weight: Array, score_weight: Array) -> None:
        self.query_weight, self.key_weight = query_weight, key_weight
        self.score_weight = score_weight

    def project_query(self, query: Array) -> Array:
        return query @ self.query_weight.astype(query.dtype, copy=False)

    def project_key(self, key: Array) -> Array:
        return key @ self.key_weight.astype(key.dtype, copy=False)

    @staticmethod
    def pair(q: Array, k: Array, score_weight: Array) -> Any:
        total = 0.0
        for h in range(len(q)):
            total += score_weight[h] * np.maximum(q[h] + k[h], 0.2 * (q[h] + k[h]))
        return total


def gatv2(inputs: Inputs) -> ac.Scorer:
    return GATv2(inputs.query_weight, inputs.key_weight, inputs.score_weight)


THIRD_PARTY = {
    "laplacian": lambda _: Laplacian(),
    "rbf": lambda _: RBF(),
    "gatv2": gatv2,
}
"""A function for each that makes the scorer from the inputs of a problem."""
