"""Rules about the size of scores: finite for moderate inputs, and within score_bound."""

from __future__ import annotations

import numpy as np

from attention_core.scoring.contract import checked_scale, method_of
from attention_core.testing.report import Violation
from attention_core.testing.scorer_subject import ScorerSubject
from attention_core.testing.subject import require_equal, rule

__all__ = ["RULES"]


@rule(
    fix="rewrite the formula so that no intermediate value overflows; softmax does the exponentials"
)
def finite(subject: ScorerSubject) -> None:
    """Moderate queries and keys have finite scores."""
    for dtype in (np.float32, np.float64):
        for scale in (0.01, 1, 10):
            query, key = subject.queries(5, dtype=dtype), subject.keys(7, dtype=dtype)
            _require_finite(f"normal arrays times {scale}", subject, query * scale, key * scale)


@rule(fix="guard divisions and logarithms: padding consists of vectors of zeros")
def zeros(subject: ScorerSubject) -> None:
    """Queries and keys of zeros have finite scores."""
    query, key = subject.queries(5), subject.keys(7)
    for factors in [(0, 1), (1, 0), (0, 0)]:
        where = " and ".join(n for n, f in zip(("query", "key"), factors, strict=True) if not f)
        _require_finite(f"zeros as {where}", subject, query * factors[0], key * factors[1])


def _require_finite(what: str, subject: ScorerSubject, *arrays: np.ndarray) -> None:
    scores = subject.scores(*arrays)
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        index = tuple(map(int, wrong[0]))
        raise Violation(f"{what} ({scores.dtype}): the score at {index} is {scores[index]}")


@rule(fix="return an upper bound of |score| for these projected arrays, or omit the method")
def bound(subject: ScorerSubject) -> str | None:
    """No score exceeds score_bound."""
    offered = False
    for dtype, scale in [(np.float64, 1), (np.float64, 100), (np.float32, 1), (np.float32, 100)]:
        for length, keys in [(5, 7), (5, 0), (0, 7)]:
            query, key = subject.project(
                subject.queries(length, dtype=dtype) * scale,
                subject.keys(keys, dtype=dtype) * scale,
            )
            with np.errstate(all="ignore"):
                limit = method_of(subject.scorer, "score_bound")(query, key)
            largest = float(np.abs(subject.call("score", query, key)).max(initial=0))
            if not largest <= limit * (1 + 1e-5):  # NaN is not a bound either
                raise Violation(
                    f"score_bound returned {limit!r} for projected query {query.shape} and key "
                    f"{key.shape}, but a score has magnitude {largest:.6g}"
                )
            offered |= limit < float("inf")
    return None if offered else "none is defined"


@rule(fix="return the number that project_query multiplies by, or omit the method")
def query_scale(subject: ScorerSubject) -> str | None:
    """project_query multiplies by query_scale."""
    if not subject.scorer.traits.scales_query:
        return "none is defined"
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-6)):
        query = subject.queries(5, dtype=dtype)
        scale = checked_scale(subject.scorer, query.shape[-1])
        projected = subject.call("project_query", query)
        require_equal("projected queries", projected, query * scale, tolerance=tolerance)
    return None


RULES = (finite, zeros, bound, query_scale)
