"""Rules about normalizers: the engine may tile, mask and reorder the scores."""

from __future__ import annotations

import numpy as np

from attention_core import Normalizer, NotDifferentiableError
from attention_core.testing.normalizer_subject import NormalizerSubject, dense_weights
from attention_core.testing.report import Violation
from attention_core.testing.subject import (
    require_derivative,
    require_equal,
    require_thread_safe,
    rule,
)
from attention_core.typing import Array

__all__ = ["RULES"]

NONE = "none are defined"


@rule(
    fix="keep the last axis of sums and maxima, with keepdims=True, and give `empty` a number for "
    "each array: its value for a row without keys"
)
def statistics(subject: NormalizerSubject) -> None:
    """Statistics are a tuple of arrays (..., l, 1), one for each number in `empty`."""
    expected = len(subject.normalizer.empty)
    for shape in [(5, 7), (1, 7), (5, 1), (2, 3, 5, 7)]:
        shapes = [own.shape for own in subject.statistics(subject.scores(*shape))]
        if shapes != [(*shape[:-1], 1)] * expected:
            raise Violation(
                f"statistics returned shapes {shapes} for scores {shape}; `empty` has {expected}"
            )


@rule(fix="compute each weight from its own score and the statistics of its row, in any shape")
def shape(subject: NormalizerSubject) -> None:
    """Weights have the shape of the scores: of a tile (..., l, s), or of edges (e,)."""
    for shape in [(5, 7), (1, 7), (5, 1), (2, 3, 5, 7)]:
        scores = subject.scores(*shape)
        found = subject.statistics(scores)
        weights = subject.weights(scores, found)
        if weights.shape != shape:
            raise Violation(f"weights returned shape {weights.shape} for scores {shape}")
        of_edges = tuple([np.broadcast_to(own, shape).reshape(-1) for own in found])
        flat = subject.weights(scores.reshape(-1), of_edges)
        require_equal("weights of edges", flat, weights.reshape(-1))


@rule(fix="create arrays in the dtype of the scores, and multiply by Python numbers")
def dtype(subject: NormalizerSubject) -> None:
    """Float32 stays float32 and float64 stays float64."""
    for kept in (np.dtype(np.float32), np.dtype(np.float64)):
        scores = subject.scores(5, 7, dtype=kept)
        found = subject.statistics(scores)
        arrays = {"statistics": found, "weights": (subject.weights(scores, found),)}
        for method, results in arrays.items():
            for own in results:
                if own.dtype != kept:
                    raise Violation(f"{method} returned {own.dtype} for {kept}")


@rule(
    fix="let statistics write only into arrays that it creates; only weights may reuse the scores"
)
def no_mutation(subject: NormalizerSubject) -> None:
    """Scores are not modified by statistics, nor statistics by weights."""
    scores = subject.scores(5, 7)
    before = scores.copy()
    found = subject.statistics(scores)
    if not np.array_equal(scores, before):
        raise Violation("statistics changed the scores")
    kept = tuple([own.copy() for own in found])
    subject.weights(scores, found)
    if not all(map(np.array_equal, found, kept)):
        raise Violation("weights changed the statistics")


@rule(fix="count only scores above -inf, the score of masked keys, and give those the weight 0")
def masked(subject: NormalizerSubject) -> None:
    """Masked keys have weights of exactly 0 and do not affect other weights."""
    scores, kept = subject.scores(5, 4), np.array([0, 2, 3, 5])
    with_masked = np.full((5, 7), -np.inf)
    with_masked[:, kept] = scores
    weights = subject.weights(with_masked)
    if np.delete(weights, kept, axis=-1).any():
        raise Violation(f"a masked key has the weight {np.delete(weights, kept, axis=-1).max():g}")
    require_equal("weights beside masked keys", weights[:, kept], subject.weights(scores))


@rule(
    fix="guard divisions and differences: a row without keys has scores of -inf only, and the "
    "statistics in `empty`"
)
def no_keys(subject: NormalizerSubject) -> None:
    """Rows whose keys are all masked have weights and context of exactly 0."""
    scores = subject.scores(*subject.batch, 5, 7)
    mask = np.arange(5)[:, None] != [2] * 7
    result = subject.attended(scores, mask=mask)
    for what, array in (
        ("weights", subject.weights(np.full((1, 7), -np.inf))),
        ("weights in a call", dense_weights(result)[..., 2, :]),
        ("context", result.context[..., 2, :]),
    ):
        if array.any():  # NaN is not 0 either
            raise Violation(f"{what} of a row without keys: {array.reshape(-1)[0]:g}")


@rule(fix="reduce over the last axis only: axis=-1")
def rows(subject: NormalizerSubject) -> None:
    """Each row is normalized by itself."""
    scores = subject.scores(2, 3, 5, 7)
    whole = subject.weights(scores)
    for index in np.ndindex(2, 3):
        require_equal("weights of a batch item alone", subject.weights(scores[index]), whole[index])
    for row in range(5):
        alone = subject.weights(scores[:, :, row : row + 1])
        require_equal(f"weights of row {row} alone", alone, whole[:, :, row : row + 1])


@rule(
    fix="leave whole_rows True, unless weights do not depend on other keys, or absorb and merge "
    "carry everything that a row needs from tile to tile"
)
def tiles(subject: NormalizerSubject) -> None:
    """Tiles of keys give the weights and context of whole rows."""
    scores = subject.scores(*subject.batch, 7, 11)
    mask = subject.rng.random((7, 11)) < 0.7
    whole = subject.weights(np.where(mask, scores, -np.inf))
    together = subject.attended(scores, mask=mask)
    if not subject.normalizer.parameters:  # parameters may be applied at the end of rows
        require_equal("weights in a call", dense_weights(together), whole)
    for tile in [(3, 4), (7, 1), (1, 11)]:
        result = subject.attended(scores, mask=mask, tile=tile)
        require_equal(f"weights of tiles {tile}", dense_weights(result), dense_weights(together))
        require_equal(f"context of tiles {tile}", result.context, together.context)


@rule(fix="let of_edges return the statistics of whole rows, or omit it")
def edges(subject: NormalizerSubject) -> None:
    """Rows of edges, for sparse masks, have the weights of tiles."""
    scores = subject.scores(*subject.batch, 5, 7)
    mask = subject.rng.random((5, 7)) < 0.6
    mask[2] = False
    starts = np.concatenate([[0], np.cumsum(mask.sum(axis=-1))])
    whole = dense_weights(subject.attended(scores, mask=mask))
    for item in np.ndindex(subject.batch):
        own = scores[item][mask]  # (e,)
        place = tuple([slice(i, i + 1) for i in item])
        with np.errstate(all="ignore"):
            found = subject.normalizer.of_edges(own.copy(), starts, place)
        of_edges = tuple([np.repeat(each[:, 0], np.diff(starts)) for each in found])
        weights = subject.weights(own, of_edges)
        require_equal("weights of edges in rows", weights, whole[item][mask])


@rule(fix="subtract the largest score of a row before taking exponentials")
def finite(subject: NormalizerSubject) -> None:
    """Scores of any size have finite weights."""
    for kept in (np.float32, np.float64):
        for scale, shift in [(1, 0), (1e-30, 0), (1e4, 0), (1, 1e4), (1, -1e4)]:
            scores = subject.scores(5, 7, dtype=kept) * kept(scale) + kept(shift)
            weights = subject.weights(scores)
            if not np.isfinite(weights).all():
                raise Violation(f"scores of {scale:g} s + {shift:g} ({weights.dtype}): not finite")


@rule(fix="return what weights needs as statistics; store nothing on self")
def stateless(subject: NormalizerSubject) -> None:
    """Interleaved calls do not affect each other."""
    mine, others = subject.scores(5, 7), subject.scores(5, 7)
    expected = subject.weights(mine)
    found = subject.normalizer.statistics(mine)
    subject.weights(others)
    require_equal("weights after another call", subject.weights(mine, found), expected)


@rule(fix="allocate memory in each call, or keep it in threading.local()")
def threads(subject: NormalizerSubject) -> None:
    """Concurrent calls from several threads give the same weights."""
    inputs = [subject.scores(20, 30) for _ in range(8)]
    what = "weights computed while other threads normalize"
    require_thread_safe(what, subject.weights, inputs)


@rule(
    fix="let scores_vjp return the gradients of the scores, in place of grad_weights, and "
    "parameter_grads those of the parameters"
)
def gradients(subject: NormalizerSubject) -> str | None:
    """Gradients agree with finite differences, for scores and every parameter."""
    if not _are_offered(subject):
        return NONE
    normalizer, scores = subject.normalizer, subject.scores(*subject.batch, 5, 7)
    mask = subject.rng.random((5, 7)) < 0.7
    mask[2] = False
    of_context = subject.rng.standard_normal((*subject.batch, 5, 3))
    of_weights = subject.rng.standard_normal((*subject.batch, 5, 7))

    def loss(scores: Array, normalizer: Normalizer | None = None) -> float:
        result = subject.attended(scores, normalizer, mask=mask)
        return float(
            np.vdot(result.context, of_context) + np.vdot(dense_weights(result), of_weights)
        )

    found = subject.attended(scores, mask=mask, tile=(3, 4)).vjp(
        of_context, grad_weights=of_weights
    )
    require_derivative("scores", found.query, loss, scores, subject.rng)
    for name, array in normalizer.parameters.items():

        def of_parameter(array: Array, name: str = name) -> float:
            return loss(scores, normalizer.with_parameters({name: array}))

        own = found.normalizer.get(name, np.zeros(array.shape))
        require_derivative(f"parameter {name!r}", own, of_parameter, array, subject.rng)
    return None


@rule(
    fix="sum over the keys of a row with row_sums, which handles tiles and edges, not with axis=-1"
)
def edge_gradients(subject: NormalizerSubject) -> str | None:
    """Gradients on the edges of a sparse mask equal those on tiles."""
    if not _are_offered(subject):
        return NONE
    scores, grad = subject.scores(5, 7), subject.scores(5, 7)
    mask = subject.rng.random((5, 7)) < 0.6
    mask[:, 3] = True
    counts = mask.sum(axis=-1)
    scores, grad = np.where(mask, scores, -np.inf), np.where(mask, grad, 0)
    found = subject.statistics(scores)
    weights = subject.weights(scores, found)
    dot = np.vecdot(weights, grad)[:, None]

    def flat(array: Array) -> Array:
        return np.broadcast_to(array, mask.shape)[mask].copy()

    def edge_sums(values: Array) -> Array:
        return np.repeat(np.add.reduceat(values, np.cumsum(counts) - counts), counts)

    def tile_sums(values: Array) -> Array:
        sums: Array = values.sum(axis=-1, keepdims=True)
        return sums

    pull = subject.normalizer.scores_vjp
    whole = pull(weights.copy(), found, grad.copy(), dot, tile_sums)
    of_edges = pull(flat(weights), tuple(map(flat, found)), flat(grad), flat(dot), edge_sums)
    require_equal("gradients of edges", of_edges, flat(whole))
    return None


def _are_offered(subject: NormalizerSubject) -> bool:
    try:
        subject.normalizer.check_differentiable()
    except NotDifferentiableError:
        return False
    return True


RULES = (
    statistics, shape, dtype, no_mutation, masked, no_keys, rows, tiles, edges, finite, stateless,
    threads, gradients, edge_gradients,
)  # fmt: skip
