"""Compiled methods of pair scorers, used where they are faster."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from attention_core.compiled.switch import is_switched_on
from attention_core.errors import PluginWarning
from attention_core.parallel.forks import COMPILING
from attention_core.typing import Array

if TYPE_CHECKING:
    from attention_core.compiled.pairs import CompiledPairs
    from attention_core.scoring.scorer import Scorer

__all__ = ["FEWEST_NUMBERS", "EdgeScores", "compiled_edges", "compiled_result", "is_compiled"]

EdgeScores = Callable[[Array, Array], Array | None]
"""The scores of edges (e,), given the rows of their queries and keys."""

FEWEST_NUMBERS = 1 << 15
"""With fewer numbers, pairs times features, a compiled call costs what it saves."""

_FAILED: WeakSet[type] = WeakSet()  # classes for which the warning was given


def is_compiled(scorer: Scorer | type[Scorer], method: str = "score") -> bool:
    """Whether compiled code serves for large calls of a method, as far as is known."""
    kind = scorer if isinstance(scorer, type) else type(scorer)
    return method in kind.traits.compiled and is_switched_on() and kind not in _FAILED


def compiled_result(scorer: Scorer, method: str, arrays: tuple[Array, ...]) -> Any:
    """The result of a method from compiled code; None if NumPy must compute it."""
    query, key = arrays[:2]
    numbers = query.size * (1 if "pairs" in method else key.shape[-2])
    if query.ndim < key.ndim or query.shape[:-2] != key.shape[:-2]:
        numbers = max(numbers, key.size * query.shape[-2])
    if numbers < FEWEST_NUMBERS or not is_compiled(scorer, method):
        return None
    are_pairs = "pairs" in method  # no two pairs share a row
    if are_pairs:
        query, key = query[..., None, :], key[..., None, :]
    query, key, arguments = scorer.pair_inputs(query, key)  # type: ignore[attr-defined]  # as pair scorers
    if are_pairs:
        query, key = query[..., 0, :], key[..., 0, :]
    return _compiled(scorer, method, query, key, *arrays[2:], arguments)


def compiled_edges(scorer: Scorer, query: Array, key: Array, count: int) -> EdgeScores | None:
    """Scores of edges (e,) by rows of queries (L, H) and keys (S, H), which are not gathered.

    None if NumPy must compute them. Rows are prepared once for all `count` edges. Those of inner
    products are compiled, too.
    """
    if count * key.shape[-1] < FEWEST_NUMBERS:
        return None
    if scorer.traits.is_inner_product:
        return partial(_products_of_edges, query, key) if is_switched_on() else None
    if not is_compiled(scorer, "score_pairs"):
        return None
    query, key, arguments = scorer.pair_inputs(query, key)  # type: ignore[attr-defined]  # as pair scorers
    return lambda rows, keys: _compiled(scorer, "score_edges", query, key, rows, keys, arguments)


def _products_of_edges(query: Array, key: Array, rows: Array, keys: Array) -> Array | None:
    """Inner products of edges; None if they cannot be compiled."""
    pairs = _module().compiled_pairs(_inner_product, None, _name(query.dtype), (), ())
    with suppress(_module().CompilationError):
        scores: Array = pairs.score_edges(query, key, rows, keys, {})
        return scores
    return None


def _inner_product(q: Array, k: Array) -> Any:
    total = 0.0
    for d in range(len(q)):
        total += q[d] * k[d]
    return total


def _compiled(scorer: Scorer, method: str, *arguments: Any) -> Any:
    """The result of compiled code; None, after a warning, if it cannot be compiled."""
    try:
        pairs = _pairs(scorer, arguments[-1], arguments[0].dtype)
        return getattr(pairs, method)(*arguments)
    except _module().CompilationError as error:
        _FAILED.add(type(scorer))
        warnings.warn(
            f"{scorer} is not compiled; NumPy is used instead: {error}", PluginWarning, stacklevel=2
        )
        return None


def _pairs(scorer: Any, arguments: dict[str, Any], dtype: np.dtype[Any]) -> CompiledPairs:
    kinds = tuple([(name, _kind(scorer, name, value)) for name, value in arguments.items()])
    has_gradients = "score_vjp" in scorer.traits.compiled
    pairs: CompiledPairs = _module().compiled_pairs(
        scorer.pair,
        scorer.pair_vjp if has_gradients else None,
        _name(dtype),
        kinds,
        scorer._signature.trainable if has_gradients else (),
    )
    return pairs


@cache
def _module() -> Any:
    with COMPILING:
        return import_module("attention_core.compiled.pairs")


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name  # takes six functions of NumPy


def _kind(scorer: Scorer, name: str, value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.ndim} {_name(value.dtype)}"
    if isinstance(value, (float, np.floating)):
        return "number" if name in scorer.parameters else "float"
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return "int" if -(1 << 63) <= value < 1 << 63 else "int of more than 64 bits"
    return type(value).__name__
