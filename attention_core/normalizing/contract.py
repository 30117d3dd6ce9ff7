"""Calls of a normalizer's methods, with its results checked and its failures named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attention_core.arrays.batch import Shape
from attention_core.errors import AttentionCoreError, ScorerContractError, Stopped, note_call
from attention_core.typing import Array

if TYPE_CHECKING:
    from attention_core.normalizing.normalizer import Normalizer, Statistics

__all__ = ["check_array", "checked_statistics", "checked_weights", "read_only", "returned"]


def checked_statistics(normalizer: Normalizer, scores: Array) -> Statistics:
    """The `statistics` of rows of scores (..., l, s), which it cannot change.

    Raises
    ------
    ScorerContractError
        For anything but a tuple of as many real arrays (..., l, 1) as `empty` has numbers.
    """
    found = returned(normalizer, "statistics", read_only(scores))
    expected = (*scores.shape[:-1], 1)
    if not isinstance(found, tuple) or len(found) != len(normalizer.empty):
        kind = f"{len(found)} arrays" if isinstance(found, tuple) else type(found).__name__
        raise ScorerContractError(
            f"{normalizer} returned {kind} from statistics; expected a tuple of "
            f"{len(normalizer.empty)} arrays (..., l, 1), one for each number in empty"
        )
    for own in found:
        check_array(normalizer, "statistics", own, expected, "a number for each row")
        if own.dtype.kind not in "fiu":
            raise ScorerContractError(
                f"{normalizer} returned dtype {own.dtype} from statistics; expected {scores.dtype}"
            )
    return found


def checked_weights(normalizer: Normalizer, scores: Array, statistics: Statistics) -> Array:
    """The `weights` of scores, in their place.

    Raises
    ------
    ScorerContractError
        For anything but an array of the shape and the dtype of the scores.
    """
    weights: Array = returned(normalizer, "weights", scores, statistics)
    if weights is scores:
        return scores
    check_array(normalizer, "weights", weights, scores.shape, "as the scores")
    if weights.dtype != scores.dtype:
        raise ScorerContractError(
            f"{normalizer} returned dtype {weights.dtype} from weights; expected {scores.dtype}, "
            f"as the scores"
        )
    np.copyto(scores, weights)  # what the normalizer may keep is not written to
    return scores


def returned(normalizer: Normalizer, method: str, scores: Array, *others: Any) -> Any:
    """The result of a method; exceptions keep their type and get a note that names it."""
    try:
        return getattr(normalizer, method)(scores, *others)
    except (AttentionCoreError, Stopped):
        raise
    except BaseException as error:
        note_call(error, normalizer, method, [scores.shape])
        raise


def check_array(
    normalizer: Normalizer, method: str, found: Any, shape: Shape, meaning: str
) -> None:
    """Raise `ScorerContractError` unless a method returned an array of this shape."""
    if not isinstance(found, np.ndarray) or isinstance(found, np.ma.MaskedArray):
        raise ScorerContractError(
            f"{normalizer} returned {type(found).__name__} from {method}; expected an array"
        )
    if found.shape != shape:
        raise ScorerContractError(
            f"{normalizer} returned shape {found.shape} from {method}; expected {shape}, {meaning}"
        )


def read_only(array: Array) -> Array:
    """A view that cannot be written to."""
    view: Array = array[...]
    view.flags.writeable = False
    return view
