"""The normalizer under test, and scores to normalize."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from attention_core import AttentionResult, Normalizer, attend
from attention_core.registry.kinds import NORMALIZER
from attention_core.testing.report import Violation
from attention_core.testing.subject import Subject
from attention_core.typing import Array

__all__ = ["NormalizerSubject", "dense_weights", "find_batch"]


@dataclass(frozen=True)
class NormalizerSubject(Subject):
    """A normalizer and scores."""

    batch: tuple[int, ...] = ()
    """Batch axes that its parameters fit, such as those of a sink for each head."""

    kind = NORMALIZER
    results = "weights"

    @property
    def normalizer(self) -> Normalizer:
        """The normalizer."""
        normalizer: Normalizer = self.component
        return normalizer

    def trial(self) -> Callable[[Normalizer], Array]:
        """Return a function from a normalizer to its weights of some scores."""
        scores = self.scores(*self.batch, 5, 7)
        return lambda normalizer: dense_weights(self.attended(scores, normalizer))

    def scores(self, *shape: int, dtype: DTypeLike = np.float64) -> Array:
        """Scores, (..., l, s)."""
        return (2 * self.rng.standard_normal(shape)).astype(dtype)

    def statistics(self, scores: Array) -> tuple[Array, ...]:
        """Copies of the arrays that `statistics` returns, which later calls cannot change."""
        with np.errstate(all="ignore"):
            found: Any = self.normalizer.statistics(scores)
        if not (isinstance(found, tuple) and all(isinstance(own, np.ndarray) for own in found)):
            raise Violation(f"statistics returned {type(found).__name__}, not a tuple of arrays")
        return tuple([own.copy() for own in found])

    def weights(self, scores: Array, statistics: tuple[Array, ...] | None = None) -> Array:
        """The weights of scores, which are not modified; by default with their own statistics."""
        found = self.statistics(scores) if statistics is None else statistics
        with np.errstate(all="ignore"):
            weights: Any = self.normalizer.weights(scores.copy(), found)
        if not isinstance(weights, np.ndarray):
            raise Violation(f"weights returned {type(weights).__name__}, not an array")
        return weights.copy()

    def attended(
        self, scores: Array, normalizer: Normalizer | None = None, **options: Any
    ) -> AttentionResult:
        """Attend with the given scores, through the engine; values have shape (s, 3)."""
        key = np.eye(scores.shape[-1], dtype=scores.dtype)
        value = np.sin(np.arange(3 * len(key)).reshape(-1, 3)).astype(scores.dtype)
        own = self.normalizer if normalizer is None else normalizer
        return attend(scores, key, value, scorer="dot", normalizer=own, **options)


def dense_weights(result: AttentionResult) -> Array:
    """The weights of a result without a sparse mask."""
    weights = result.weights
    assert isinstance(weights, np.ndarray)
    return weights


def find_batch(normalizer: Normalizer) -> tuple[int, ...]:
    """The batch axes of a normalizer's parameters, if it accepts them; else none."""
    with suppress(Exception):  # the checks report it
        batch = np.broadcast_shapes(*(own.shape for own in normalizer.parameters.values()))
        normalizer.check_batch(batch)
        return batch
    return ()
