"""Scorers for tests of every rule, and comparisons of results with the oracle.

Tolerances are derived, not tuned. A score is a sum of at most ten products whose magnitudes add up
to at most `scale`, so its error is below ``10 * scale * eps``. The exponential turns that absolute
error into a relative one, once in the weight and once in its normalizer. The rest (the
exponential itself, the sum over at most twenty keys, the division) is below ``24 * eps``. A result
that is stored in a half type is rounded once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bundled
import ml_dtypes
import numpy as np
import reference
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

import attention_core as ac

Array = NDArray[Any]

SCORERS = (*bundled.SCORERS, "taxicab")


class Taxicab(ac.Scorer):
    """A third-party scorer: no base class but `Scorer`, no bound, and a projection of one side."""

    def project_key(self, key: Array) -> Array:
        return 2 * key

    def score(self, query: Array, key: Array) -> Array:
        return -abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)


def taxicab(query: list[float], key: list[float]) -> float:
    return -sum(abs(q - 2 * k) for q, k in zip(query, key, strict=True))


@dataclass(frozen=True)
class Case:
    """A scorer and the same formula for the oracle."""

    name: str
    scorer: ac.Scorer
    score: reference.Score
    query_dim: int
    key_dim: int

    def arrays(
        self,
        rng: np.random.Generator,
        batch: Sequence[int] = (),
        *,
        queries: int = 5,
        keys: int = 7,
        values: int = 3,
        dtype: Any = np.float64,
    ) -> tuple[Array, Array, Array]:
        """A query, key and value of standard normal numbers."""
        shapes = (queries, self.query_dim), (keys, self.key_dim), (keys, values)
        q, k, v = (rng.standard_normal((*batch, *shape)).astype(dtype) for shape in shapes)
        return q, k, v

    def attend(self, query: Any, key: Any, value: Any, **options: Any) -> ac.AttentionResult:
        return ac.attend(query, key, value, scorer=self.scorer, **options)

    def expect(self, query: Any, key: Any, value: Any, **options: Any) -> reference.Reference:
        """The oracle's result, which does not depend on tiles and threads."""
        options = {k: v for k, v in options.items() if k not in {"tile", "workers"}}
        return reference.attend(query, key, value, score=self.score, **options)

    def check(
        self, query: Any, key: Any, value: Any, *, scale: float = 32.0, **options: Any
    ) -> ac.AttentionResult:
        """Attend, compare everything in the result with the oracle, and return the result."""
        result = self.attend(query, key, value, **options)
        assert_agrees(
            result,
            self.expect(query, key, value, **options),
            scale=scale,
            value_scale=largest(value),
        )
        return result


def make_case(name: str) -> Case:
    rng = np.random.default_rng(7)
    if name == "additive":
        shapes = {"query_weight": (4, 6), "key_weight": (3, 6), "score_weight": (6,), "bias": (6,)}
        arrays = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
        return Case(name, ac.make_scorer(name, **arrays), reference.additive(**arrays), 4, 3)
    if name == "general":
        weight = rng.standard_normal((4, 3))
        return Case(name, ac.make_scorer(name, weight=weight), reference.general(weight), 4, 3)
    if name == "gaussian":
        scale = rng.standard_normal(4)
        return Case(name, ac.make_scorer(name, scale=scale), reference.gaussian(scale), 4, 4)
    if name == "taxicab":
        return Case(name, Taxicab(), taxicab, 4, 4)
    formula = {"dot": reference.dot, "scaled_dot": reference.scaled_dot()}[name]
    return Case(name, ac.make_scorer(name), formula, 4, 4)


def column(*numbers: float, dtype: Any = np.float64) -> Array:
    """Numbers as rows of one feature: the dot score of [1] and [s] is s."""
    return np.array(numbers, dtype)[:, None]


def one_row(scores: ArrayLike, value: Any = None, **options: Any) -> ac.AttentionResult:
    """Attention of one query whose dot scores with the keys are exactly these numbers."""
    scores = np.asarray(scores)
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if value is None:
        value = np.eye(scores.size, dtype=scores.dtype)
    query = np.ones((1, 1), scores.dtype)
    return ac.attend(query, scores[:, None], value, scorer="dot", **options)


def dense(weights: Any) -> Array:
    """Convert sparse weights of a sparse mask to a dense array, for comparisons."""
    return weights.toarray() if scipy.sparse.issparse(weights) else weights


def dense_scores(scores: Any) -> Array:
    """Scores of a sparse mask store its edges; every other entry is masked."""
    if not scipy.sparse.issparse(scores):
        return scores
    edges = scores.tocoo()
    full = np.full(edges.shape, -np.inf, edges.dtype)
    full[edges.coords] = edges.data
    return full


def float64(array: Any) -> NDArray[np.float64]:
    return np.asarray(dense(array)).astype(np.float64)


def largest(array: Any) -> float:
    """The largest finite magnitude."""
    numbers = np.abs(np.asarray(array).astype(np.float64))
    return float(np.max(numbers, initial=0.0, where=np.isfinite(numbers)))


def assert_agrees(
    result: ac.AttentionResult,
    expected: reference.Reference,
    *,
    scale: float = 32.0,
    value_scale: float,
) -> None:
    """Compare everything in an `AttentionResult` with the oracle."""
    dtype = result.context.dtype
    computing = np.finfo(np.float64 if dtype == np.float64 else np.float32)
    stored = ml_dtypes.finfo(dtype)
    score_error = 10 * scale * float(computing.eps)
    weight_error = 2 * score_error + 24 * float(computing.eps)
    rounding = float(stored.eps) if stored.bits == 16 else 0.0
    smallest = float(stored.smallest_subnormal) if stored.bits == 16 else float(computing.tiny)

    def close(name: str, actual: Any, wanted: Array, *, rtol: float, atol: float) -> None:
        actual = float64(actual)
        assert actual.shape == wanted.shape, f"{name}: {actual.shape} instead of {wanted.shape}"
        np.testing.assert_allclose(actual, wanted, rtol=rtol + rounding, atol=atol, err_msg=name)

    close("weights", result.weights, expected.weights, rtol=weight_error, atol=smallest)
    scores = dense_scores(result.scores)
    close("scores", scores, expected.scores, rtol=score_error, atol=score_error)
    close(
        "context", result.context, expected.context,
        rtol=weight_error, atol=weight_error * value_scale + smallest,
    )  # fmt: skip
    close("entropy", result.entropy, expected.entropy, rtol=weight_error, atol=8 * weight_error)
    n_rows = max(1, expected.allowed.shape[-2] if expected.allowed.ndim > 1 else 1)
    close(
        "key_mass", result.key_mass, expected.key_mass,
        rtol=weight_error, atol=weight_error * n_rows + smallest,
    )  # fmt: skip

    # A row with a NaN or +inf score has no normalizer; it may be NaN or inf.
    normal = ~np.isnan(expected.log_normalizer)
    log_normalizer = np.asarray(result.log_normalizer)
    assert log_normalizer.shape == expected.log_normalizer.shape
    assert log_normalizer.dtype == computing.dtype
    np.testing.assert_allclose(
        log_normalizer[normal], expected.log_normalizer[normal],
        rtol=score_error, atol=2 * score_error, err_msg="log_normalizer",
    )  # fmt: skip
    assert not np.isfinite(log_normalizer[~normal]).any()

    for array in (result.context, result.entropy, result.key_mass):
        assert array.dtype == dtype
    is_sparse = scipy.sparse.issparse(result.weights)
    for array in (result.weights, scores):  # SciPy has no sparse arrays of half types
        assert array.dtype == (computing.dtype if is_sparse else dtype)

    # Rows without allowed keys are exactly zero, not just small.
    assert not float64(result.weights)[~expected.allowed].any()
    nothing = ~expected.allowed.any(axis=-1)
    assert not float64(result.context)[nothing].any()
    assert np.isneginf(log_normalizer[~expected.allowed.any(axis=-1)]).all()

    n = min(3, expected.weights.shape[-1])
    if n and not np.isnan(expected.weights).any():
        top = result.top_k(n)
        close("top_k", top.weights, expected.top_k(n)[1], rtol=weight_error, atol=smallest)
        assert top.weights.dtype == dtype
