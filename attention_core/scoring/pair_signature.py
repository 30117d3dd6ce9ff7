"""The arguments of a scorer's pair functions."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from attention_core.errors import ScorerContractError

__all__ = ["PairSignature", "find_signature"]


class PairSignature(NamedTuple):
    """Names of arguments."""

    arguments: tuple[str, ...]
    """Arguments of `pair` after the rows, which are attributes of the scorer."""
    trainable: tuple[str, ...]
    """Those whose gradients `pair_vjp` computes."""


def find_signature(cls: Any, base: Any) -> PairSignature:
    """The signature of a class of pair scorers; `base` is `PairScorer`, which has none.

    Raises
    ------
    ScorerContractError
        If `pair` or `pair_vjp` has invalid arguments.
    """
    if cls.pair is base.pair:
        return PairSignature((), ())
    names = _names(cls, "pair")
    if len(names) < 2:
        raise ScorerContractError(
            f"class {cls.__name__}: pair must be a static method pair(q, k, ...), got "
            f"pair({', '.join(names)})"
        )
    if cls.pair_vjp is base.pair_vjp:
        return PairSignature(tuple(names[2:]), ())
    given = _names(cls, "pair_vjp")
    first = [*names, "grad", *(f"grad_{name}" for name in names[:2])]
    rest = [name.removeprefix("grad_") for name in given[len(first) :]]
    if given[: len(first)] != first or not set(rest) <= set(names[2:]):
        optional = "".join(f"[, grad_{name}]" for name in names[2:])
        raise ScorerContractError(
            f"class {cls.__name__}: pair_vjp must be a static method "
            f"pair_vjp({', '.join(first)}{optional}), got pair_vjp({', '.join(given)})"
        )
    return PairSignature(tuple(names[2:]), tuple(rest))


def _names(cls: Any, method: str) -> list[str]:
    function = inspect.getattr_static(cls, method)
    if not isinstance(function, staticmethod):
        raise ScorerContractError(
            f"class {cls.__name__}: {method} must be a static method; write @staticmethod above it"
        )
    return list(inspect.signature(function.__func__).parameters)
