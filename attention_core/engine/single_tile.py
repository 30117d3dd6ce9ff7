"""Attention at once: for calls, or blocks of a call, whose scores are one tile without a mask."""

from __future__ import annotations

from math import isfinite, prod

import numpy as np

from attention_core.arrays.matmul import matrix_product
from attention_core.engine.plan import fits_one_tile
from attention_core.engine.softmax import exponentiate
from attention_core.scoring.cost import key_cost, pair_cost, score_tile, temporaries
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["attend_at_once", "is_one_tile"]


def is_one_tile(scorer: Scorer, query: Array, value: Array, batch: tuple[int, ...]) -> bool:
    """Whether a call without masks is one tile, and too little work for threads."""
    (length, features), (key_length, value_features) = query.shape[-2:], value.shape[-2:]
    items, pairs = prod(batch), length * key_length
    cost = pairs * pair_cost(scorer, features, value_features)
    cost += key_length * key_cost(features, value_features)
    return items * pairs > 0 and fits_one_tile(
        items * pairs, items * cost, query.itemsize, temporaries(scorer, features)
    )


def attend_at_once(
    scorer: Scorer, query: Array, key: Array, value: Array, batch: tuple[int, ...]
) -> tuple[Array, Array, Array] | None:
    """What `Engine.attend` returns, where one tile without mask, bias and softcap is all there is.

    The shift and the total keep an axis for the keys, (..., L, 1).

    Every guard of the loop serves rows that come out as NaN or Inf here: then it is None, and the
    loop has to do it.
    """
    length, key_length = query.shape[-2], key.shape[-2]
    scores = np.empty((*batch, length, key_length), query.dtype)
    score_tile(scorer, query, key, scores)
    shift: Array = np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.subtract(scores, shift, out=scores)
    exponentiate(scores)
    total: Array = np.add.reduce(scores, axis=-1, keepdims=True)
    context = np.empty((*batch, length, value.shape[-1]), query.dtype)
    matrix_product(scores, value, context)
    np.divide(context, total, out=context)
    is_sound = context.size > 0 and isfinite(np.vdot(context, context))
    return (context, shift, total) if is_sound else None
