"""Rules that let the engine split and reorder the work: a score depends only on its own pair."""

from __future__ import annotations

from itertools import product

import numpy as np

from attention_core.testing.report import Violation
from attention_core.testing.scorer_subject import ScorerSubject
from attention_core.testing.subject import require_equal, require_thread_safe, rule

__all__ = ["RULES"]


@rule(
    fix="compute each score from its own projected query and key only, independently of the others"
)
def tiles(subject: ScorerSubject) -> None:
    """Scoring in tiles equals scoring whole."""
    query, key = subject.project(subject.queries(2, 7), subject.keys(2, 11))
    whole = subject.call("score", query, key)
    for height, width in [(3, 4), (1, 11), (7, 1)]:
        for row, column in product(range(0, 7, height), range(0, 11, width)):
            rows, columns = slice(row, row + height), slice(column, column + width)
            tile = subject.call("score", query[:, rows], key[:, columns])
            require_equal(
                f"scores of queries {row}:{row + height} and keys {column}:{column + width} alone",
                tile,
                whole[:, rows, columns],
            )


@rule(
    fix="project each query and key by itself: a Memory projects only the keys that are appended, "
    "so do not normalize over queries or keys"
)
def projection(subject: ScorerSubject) -> None:
    """Projecting in pieces equals projecting whole."""
    arrays = {"project_query": subject.queries(2, 7), "project_key": subject.keys(2, 7)}
    for method, array in arrays.items():
        whole = subject.call(method, array)
        for piece in (slice(0, 3), slice(3, 7), slice(6, 7)):
            part = subject.call(method, array[:, piece])
            what = f"results of {method} for rows {piece.start}:{piece.stop} alone"
            require_equal(what, part, whole[:, piece])


@rule(fix="let batch axes broadcast; reduce over features (axis=-1) only")
def batch(subject: ScorerSubject) -> None:
    """Scoring a batch equals scoring its items one by one."""
    query, key = subject.queries(3, 5), subject.keys(3, 7)
    whole = subject.scores(query, key)
    for item in range(3):
        alone = subject.scores(query[item], key[item])
        require_equal(f"scores of batch item {item} alone", alone, whole[item])


@rule(
    fix="make score_pairs compute for pairs (..., E, H) what score computes for tiles; or omit it"
)
def pairs(subject: ScorerSubject) -> None:
    """Scores of pairs, for sparse masks, equal those of tiles."""
    query, key = subject.project(subject.queries(2, 5), subject.keys(2, 7))
    whole = subject.call("score", query, key)
    rows, columns = np.array([4, 0, 2, 2, 1, 3]), np.array([0, 6, 3, 4, 1, 5])
    for count in (6, 1, 0):
        edges = rows[:count], columns[:count]
        scores = subject.call("score_pairs", query[:, edges[0]], key[:, edges[1]])
        require_equal(f"scores of {count} pairs", scores, whole[:, edges[0], edges[1]])
        scores = subject.call("score_pairs", query[0, edges[0]], key[0, edges[1]])
        require_equal(f"scores of {count} pairs", scores, whole[0, edges[0], edges[1]])


@rule(fix="compute each score from its own pair; do not normalize by a sum or maximum over others")
def nan(subject: ScorerSubject) -> None:
    """A query or key with NaN or Inf, as in padding, affects only its own scores."""
    query, key = subject.queries(5), subject.keys(7)
    clean = subject.scores(query, key)
    for bad, feature in product((np.nan, np.inf, -np.inf), (0, -1)):
        bad_query, bad_key = query.copy(), key.copy()
        bad_query[2, feature] = bad_key[3, feature] = bad
        scores = subject.scores(bad_query, bad_key)
        others = np.ix_([0, 1, 3, 4], [0, 1, 2, 4, 5, 6])
        require_equal(f"scores beside a query and a key with {bad}", scores[others], clean[others])


@rule(fix="draw random numbers in the constructor, never while scoring")
def deterministic(subject: ScorerSubject) -> None:
    """The same arrays give the same scores, bit for bit."""
    query, key = subject.queries(5), subject.keys(7)
    first, second = subject.scores(query, key), subject.scores(query, key)
    if first.tobytes() != second.tobytes():
        raise Violation(f"scores changed by {np.abs(first - second).max():.3g} from call to call")


@rule(fix="return what score needs from project_query and project_key; store nothing on self")
def stateless(subject: ScorerSubject) -> None:
    """Interleaved calls do not affect each other."""
    mine = subject.queries(5), subject.keys(7)
    others = subject.queries(5), subject.keys(7)
    expected = subject.scores(*mine)
    prepared, prepared_others = subject.project(*mine), subject.project(*others)
    scores = subject.returned("score", *prepared)
    subject.returned("score", *prepared_others)
    require_equal("scores after another call", scores, expected)


@rule(fix="keep scratch memory in threading.local(), or allocate it in each call")
def threads(subject: ScorerSubject) -> None:
    """Concurrent calls from several threads give the same scores."""
    inputs = [(subject.queries(3, 5), subject.keys(3, 7)) for _ in range(8)]
    what = "scores computed while other threads score"
    require_thread_safe(what, lambda arrays: subject.scores(*arrays), inputs)


RULES = (tiles, projection, batch, pairs, nan, deterministic, stateless, threads)
