"""Scorers, normalizers and biases from what callers give: a name, a mapping, or the component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from attention_core.arrays.inputs import is_sparse
from attention_core.components.bias import Bias
from attention_core.errors import OptionTypeError, shown
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.scoring.scorer import Scorer
from attention_core.typing import NormalizerLike, ScorerLike

__all__ = ["default_bias", "resolve_bias", "resolve_normalizer", "resolve_scorer"]


def resolve_scorer(scorer: ScorerLike) -> Scorer:
    """Resolve a name or a mapping to a scorer; return a scorer itself."""
    if isinstance(scorer, Scorer):
        return scorer
    found: Scorer = _resolve()(scorer)
    return found


def resolve_normalizer(normalizer: NormalizerLike) -> Normalizer:
    """Resolve a name or a mapping to a normalizer; return a normalizer itself."""
    if isinstance(normalizer, str) and normalizer == "softmax":
        return SOFTMAX
    if isinstance(normalizer, Normalizer):
        return normalizer
    from attention_core.registry.kinds import NORMALIZER  # imported only if used

    found: Normalizer = _resolve()(normalizer, NORMALIZER)
    return found


def resolve_bias(bias: Any) -> Any:
    """Resolve a name or a mapping to a bias; return any other bias itself."""
    if not isinstance(bias, (str, Mapping)) or is_sparse(bias):  # SciPy's DOK is a mapping, too
        return bias
    from attention_core.registry.kinds import BIAS  # imported only if used

    return _resolve()(bias, BIAS)


def default_bias(owner: str, bias: Any) -> Bias | None:
    """Resolve the bias of an attention or a layer.

    Raises
    ------
    OptionTypeError
        For an array or a function, which only a call takes.
    """
    found = resolve_bias(bias)
    if found is None or isinstance(found, Bias):
        return found
    hint = "pass arrays and functions to its calls"
    if isinstance(found, bool):
        hint = "biases of projections are biases=, or arrays such as query_bias="
    raise OptionTypeError(
        f"the bias of {owner} must be a name, a mapping with a 'name', or a Bias, "
        f"got {shown(found)}; {hint}"
    )


@cache  # an import statement costs the smallest calls a microsecond
def _resolve() -> Callable[..., Any]:
    """The `resolve` of `registry/default.py`; components that are given need no registry."""
    from attention_core.registry.default import resolve

    return resolve
