"""Rules about shapes: any number of queries and keys, and any batch axes."""

from __future__ import annotations

import numpy as np

from attention_core import ShapeError
from attention_core.testing.report import Violation
from attention_core.testing.scorer_subject import ScorerSubject
from attention_core.testing.subject import rule

__all__ = ["RULES"]


def _require_shapes(subject: ScorerSubject, query: tuple[int, ...], key: tuple[int, ...]) -> None:
    """Queries (..., L) and keys (..., S) give scores (..., L, S)."""
    arrays = {"query": subject.queries(*query), "key": subject.keys(*key)}
    prepared = []
    for name, array in arrays.items():
        projected = subject.call(f"project_{name}", array)
        if projected.shape[:-1] != array.shape[:-1]:
            raise Violation(
                f"project_{name} returned shape {projected.shape} for {array.shape}",
                fix=f"project_{name} changes the last axis only: (..., n, D) -> (..., n, H)",
            )
        prepared.append(projected)
    scores = subject.call("score", *prepared)
    expected = (*np.broadcast_shapes(query[:-1], key[:-1]), query[-1], key[-1])
    if scores.shape != expected:
        raise Violation(
            f"score returned shape {scores.shape}, expected {expected}, "
            f"for projected query {prepared[0].shape} and key {prepared[1].shape}"
        )


@rule(fix="return one score for every pair: (..., L, H) and (..., S, H) -> (..., L, S)")
def shape(subject: ScorerSubject) -> None:
    """Scores have shape (..., L, S), also for one query or one key."""
    for length, keys in [(5, 7), (1, 7), (5, 1), (1, 1)]:
        _require_shapes(subject, (length,), (keys,))


@rule(
    fix="count axes from the end (axis=-1, [..., :, None, :], swapaxes(-1, -2)), "
    "so that any leading axes broadcast as in numpy.matmul"
)
def batch_axes(subject: ScorerSubject) -> None:
    """Any batch axes work: one, several, of length 1, and different axes that broadcast."""
    batches = [
        ((2,), (2,)),
        ((3, 1, 2), (3, 1, 2)),
        ((2, 3), (3,)),
        ((), (3,)),
        ((3,), ()),
        ((2, 1), (1, 3)),
    ]
    for query, key in batches:
        _require_shapes(subject, (*query, 5), (*key, 7))


@rule(fix="avoid reductions without an identity (max, min) over queries or keys, or give initial=")
def empty(subject: ScorerSubject) -> None:
    """Zero queries or zero keys give an empty array of scores."""
    for length, keys in [(5, 0), (0, 7), (0, 0)]:
        _require_shapes(subject, (length,), (keys,))


@rule(
    fix="override check_features(query_dim, key_dim) and raise attention_core.ShapeError, "
    "with the numbers of features that the scorer accepts"
)
def features(subject: ScorerSubject) -> None:
    """Numbers of features that do not fit are rejected by check_features."""
    dims = subject.query_dim, subject.key_dim
    try:
        subject.scorer.check_features(*dims)
    except ShapeError as error:
        raise Violation(
            f"check_features rejects (Dq, Dk) = {dims}: {error}",
            fix="pass numbers of features that the scorer accepts: query_dim= and key_dim=",
        ) from None
    for query_dim, key_dim in [(dims[0] + 1, dims[1]), (dims[0], dims[1] + 1)]:
        try:
            subject.scorer.check_features(query_dim, key_dim)
        except ShapeError:
            continue
        accepted = f"check_features accepts (Dq, Dk) = {(query_dim, key_dim)}, but"
        query, key = np.ones((5, query_dim)), np.ones((7, key_dim))
        try:
            scores = subject.scores(query, key)
        except Exception as error:
            seen = f"{accepted} scoring raised {type(error).__name__}: {error}".strip()
            raise Violation(seen) from error
        if scores.shape != (5, 7):
            raise Violation(f"{accepted} scores have shape {scores.shape}, expected (5, 7)")


RULES = (shape, batch_axes, empty, features)
