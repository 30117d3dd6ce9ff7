"""The arrays of multi-head attention and their axes.

Weights have an axis for the heads: (E, N, D) into the heads, and (N, D, E) back, for N heads of D
features.
"""

from __future__ import annotations

from collections.abc import Mapping

from attention_core.errors import OptionError, ShapeError
from attention_core.typing import Array

__all__ = ["INPUTS", "LAYOUT", "checked_sizes"]

INPUTS = ("query", "key", "value")

LAYOUT = {
    "query_weight": ("Eq", "N", "Dq"),
    "key_weight": ("Ek", "M", "Dk"),
    "value_weight": ("Ev", "M", "Dv"),
    "output_weight": ("N", "Dv", "Eo"),
    "query_bias": ("N", "Dq"),
    "key_bias": ("M", "Dk"),
    "value_bias": ("M", "Dv"),
    "output_bias": ("Eo",),
    "extra_key": ("M", "Dk"),
    "extra_value": ("M", "Dv"),
}
"""The axes of each array: N heads, M heads of keys and values, E features outside, D inside."""


def checked_sizes(arrays: Mapping[str, Array]) -> dict[str, int]:
    """Return the length of each axis of the layout, by its letters.

    Raises
    ------
    ShapeError
        For arrays that disagree on the length of an axis, or N that is not a multiple of M.
    OptionError
        For an extra key without a value, or a value without a key.
    """
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        axes = LAYOUT[name]
        wanted = [sizes.get(axis, axis) for axis in axes]
        fits = len(axes) == array.ndim and all(
            sizes.setdefault(axis, size) == size
            for axis, size in zip(axes, array.shape, strict=True)
        )
        if not fits:
            known = f" = ({', '.join(map(str, wanted))})" if wanted != list(axes) else ""
            raise ShapeError(
                f"{name} must have shape ({', '.join(axes)}){known}, got {array.shape}"
            )
    heads, key_heads = sizes["N"], sizes["M"]
    if key_heads < 1 or heads < 1 or heads % key_heads:
        raise ShapeError(
            f"N = {heads} heads cannot share M = {key_heads} heads of keys and values: "
            f"N must be a multiple of M"
        )
    if ("extra_key" in arrays) != ("extra_value" in arrays):
        raise OptionError("extra_key and extra_value must be given together")
    return sizes
