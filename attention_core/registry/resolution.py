"""Biases from what callers give: a name, a mapping, a `Bias`, or what only a call takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attention_core.arrays.inputs import is_sparse
from attention_core.components.bias import Bias
from attention_core.errors import OptionTypeError, shown

__all__ = ["default_bias", "resolve_bias"]


def resolve_bias(bias: Any) -> Any:
    """Resolve a name or a mapping to a bias; return any other bias itself."""
    if not isinstance(bias, (str, Mapping)) or is_sparse(bias):  # SciPy's DOK is a mapping, too
        return bias
    from attention_core.registry.default import resolve
    from attention_core.registry.kinds import BIAS  # imported only if used

    return resolve(bias, BIAS)


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
