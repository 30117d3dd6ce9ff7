"""Attention in one tile, for calls so small that planning would cost more than computing."""

from __future__ import annotations

from math import isfinite

import numpy as np

from attention_core.arrays.matmul import FEW_NUMBERS, inner_products
from attention_core.engine.base import Problem
from attention_core.normalizing.normalizer import Statistics
from attention_core.scoring.contract import score_tile
from attention_core.scoring.softcap import cap
from attention_core.typing import Array

__all__ = ["attend_single_tile"]


def attend_single_tile(
    problem: Problem, kept: Array | None = None
) -> tuple[Array, Statistics] | None:
    """Compute the result of `TileEngine.attend` for a problem that is one tile.

    Rows that would need the guards of the loop are NaN or Inf here. In that case the result is
    None, and the loop must compute it. Masked scores are also written to `kept`.
    """
    scores = _scores(problem)
    if problem.softcap is not None:
        cap(scores, problem.softcap)
    if problem.bias is not None or problem.masking is not None:
        _bias_and_mask(problem, scores)
    if kept is not None:
        kept[...] = scores
    context, statistics = problem.normalizer.of_whole_rows(scores, problem.value)
    flat = context.ravel()
    is_sound = context.size > 0 and isfinite(flat.dot(flat))
    return (context, statistics) if is_sound else None


def _scores(problem: Problem) -> Array:
    query, key = problem.query, problem.key
    if query.ndim == 2 and problem.scorer.traits.is_inner_product:
        if key.size > FEW_NUMBERS:
            return inner_products(query, key)
        scores: Array = query.dot(key.T)  # has the least overhead
        return scores
    scores = np.empty((*problem.batch, query.shape[-2], key.shape[-2]), query.dtype)
    score_tile(problem.scorer, query, key, scores)
    return scores


def _bias_and_mask(problem: Problem, scores: Array) -> None:
    *_, length, key_length = scores.shape
    batch = tuple([slice(0, n) for n in problem.batch])
    place = batch, slice(0, length), slice(0, key_length)
    if problem.bias is not None:
        scores += problem.bias.tile(*place, scores.dtype)
    if problem.masking is not None:
        allowed = problem.masking.allowed(*place)
        if allowed is not None:
            bounds = problem.masking.ceiling(*place, allowed, scores.dtype)
            np.fmin(scores, bounds, out=scores)
