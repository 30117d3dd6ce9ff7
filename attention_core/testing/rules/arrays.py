"""Rules about arrays: dtypes, memory layouts, and inputs that are not modified."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attention_core.testing.report import Violation
from attention_core.testing.scorer_subject import ScorerSubject
from attention_core.testing.subject import require_equal, rule
from attention_core.typing import Array

__all__ = ["RULES"]


@rule(
    fix="cast parameters to the dtype of the inputs (weight.astype(query.dtype, copy=False)), "
    "and multiply by Python numbers rather than NumPy scalars"
)
def dtype(subject: ScorerSubject) -> None:
    """Float32 stays float32 and float64 stays float64."""
    for kept in (np.dtype(np.float32), np.dtype(np.float64)):
        query, key = subject.queries(5, dtype=kept), subject.keys(5, dtype=kept)
        results = {
            "project_query": subject.call("project_query", query),
            "project_key": subject.call("project_key", key),
        }
        projected = tuple(array.astype(kept) for array in results.values())
        results |= {method: subject.call(method, *projected) for method in ("score", "score_pairs")}
        for method, result in results.items():
            if result.dtype != kept:
                raise Violation(f"{method} returned {result.dtype} for {kept}")


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


@rule(fix="write only into arrays that you create: a * b instead of a *= b")
def read_only(subject: ScorerSubject) -> None:
    """Read-only arrays can be scored."""
    query, key = subject.queries(2, 5), subject.keys(2, 7)
    query, key = subject.project(_read_only(query), _read_only(key))
    query, key = _read_only(query.copy()), _read_only(key.copy())
    subject.call("score", query, key)
    subject.call("score_pairs", query, key[..., :5, :])


@rule(fix="write only into arrays that you create: a * b instead of a *= b; no input as out=")
def no_mutation(subject: ScorerSubject) -> None:
    """Scoring changes neither the inputs nor the scorer's parameters."""
    query, key = subject.queries(2, 5), subject.keys(2, 7)
    parameters = {f"parameter {name!r}": array for name, array in _parameters(subject).items()}
    watched = {"query": query, "key": key, **parameters}
    before = {name: array.copy() for name, array in watched.items()}
    projected = subject.project(query, key)
    _require_unchanged("projecting", watched, before)
    watched |= {"the projected query": projected[0], "the projected key": projected[1]}
    before |= {name: watched[name].copy() for name in watched.keys() - before.keys()}
    subject.call("score", *projected)
    _require_unchanged("score", watched, before)
    subject.call("score_pairs", projected[0], projected[1][..., :5, :])
    _require_unchanged("score_pairs", watched, before)


def _parameters(subject: ScorerSubject) -> dict[str, Array]:
    try:
        return subject.scorer.parameters
    except Exception:  # noqa: BLE001 - the check of parameters reports it
        return {}


def _require_unchanged(what: str, watched: dict[str, Array], before: dict[str, Array]) -> None:
    for name, array in watched.items():
        if not np.array_equal(array, before[name], equal_nan=True):
            raise Violation(f"{what} changed {name}")


@rule(fix="assume nothing about memory layout: do not use view(), .data or strides of inputs")
def strided(subject: ScorerSubject) -> None:
    """Scores do not depend on the memory layout of the arrays."""
    query, key = subject.queries(5), subject.keys(7)
    expected = subject.scores(query, key)
    layouts: dict[str, Callable[[Array], Array]] = {
        "Fortran-ordered arrays": np.asfortranarray,
        "arrays with negative strides": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
        "every second element": lambda array: np.repeat(np.repeat(array, 2, 0), 2, 1)[::2, ::2],
    }
    for name, lay_out in layouts.items():
        require_equal(f"scores of {name}", subject.scores(lay_out(query), lay_out(key)), expected)
        projected = map(lay_out, subject.project(query, key))
        require_equal(f"scores of {name}", subject.call("score", *projected), expected)
    query, key = np.broadcast_to(query[0], query.shape), np.broadcast_to(key[0], key.shape)
    expected = subject.scores(query.copy(), key.copy())
    require_equal("scores of broadcast arrays", subject.scores(query, key), expected)


RULES = (dtype, read_only, no_mutation, strided)
