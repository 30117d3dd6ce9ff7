"""The arrays of multi-head attention: how they fit, first values, other layouts.

Weights have an axis for the heads, so that their shapes say all there is to know: (E, N, D) into
the heads, and (N, D, E) out of them, for N heads of D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array
from attention_core.errors import (
    DTypeError,
    OptionError,
    OptionTypeError,
    ShapeError,
    did_you_mean,
)
from attention_core.options import check_count
from attention_core.typing import Array

__all__ = ["LAYOUT", "checked_sizes", "first_arrays", "keras_arrays", "torch_arrays"]

Arrays = dict[str, Array]

LAYOUT = {
    "query_weight": ("Eq", "N", "Dq"),
    "key_weight": ("Ek", "M", "Dk"),
    "value_weight": ("Ev", "M", "Dv"),
    "output_weight": ("N", "Dv", "Eo"),
    "query_bias": ("N", "Dq"),
    "key_bias": ("M", "Dk"),
    "value_bias": ("M", "Dv"),
    "output_bias": ("Eo",),
}
"""The axes of each array: N heads, M heads of keys and values, and features E outside, D inside."""
_INPUTS = ("query", "key", "value")
_TORCH_WEIGHTS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_TORCH_NAMES = (
    "in_proj_weight", *_TORCH_WEIGHTS, "in_proj_bias", "out_proj.weight", "out_proj.bias"
)  # fmt: skip


def checked_sizes(arrays: Mapping[str, Array]) -> dict[str, int]:
    """The length of each axis of the layout, by its letters.

    Raises
    ------
    ShapeError
        For arrays that do not agree on one, or heads that do not come in equal groups.
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
    return sizes


def first_arrays(
    sizes: Mapping[str, int], rng: int | np.random.Generator, *, biases: bool
) -> Arrays:
    """Weights uniform in ``+-sqrt(6 / (fan_in + fan_out))``, and biases of 0, for these sizes.

    Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html

    Raises
    ------
    OptionError, OptionTypeError
        For what is no seed.
    """
    try:
        random = np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        kind = OptionTypeError if isinstance(error, TypeError) else OptionError
        raise kind(
            f"rng must be a seed, an integer of at least 0, or a numpy.random.Generator, "
            f"got {rng!r}"
        ) from None
    arrays: Arrays = {}
    for name, axes in LAYOUT.items():
        shape = tuple(sizes[axis] for axis in axes)
        if name.endswith("_weight"):
            split = 2 if name == "output_weight" else 1
            limit = (6.0 / (prod(shape[:split]) + prod(shape[split:]))) ** 0.5
            arrays[name] = random.uniform(-limit, limit, shape)
        elif biases:
            arrays[name] = np.zeros(shape)
    return arrays


def torch_arrays(state: Mapping[str, ArrayLike], heads: int) -> Arrays:
    """Our arrays from the state of a ``torch.nn.MultiheadAttention``: names and (out, in) weights.

    Raises
    ------
    OptionError, OptionTypeError
        For names that are missing, given in both ways, or that it does not have; for what is no
        state or no number of heads.
    ShapeError
        For arrays that do not fit each other, or the number of heads.
    DTypeError
        For tensors that are no dense arrays of real numbers.

    Examples
    --------
    >>> state = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.ones((4, 4))}
    >>> torch_arrays(state, heads=2)["output_weight"].shape
    (2, 2, 4)
    """
    check_count("heads", heads)
    if not isinstance(state, Mapping):
        raise OptionTypeError(
            f"state must be a mapping of names to arrays, as module.state_dict() returns, "
            f"got a {type(state).__name__}"
        )
    for name in state:
        if name not in _TORCH_NAMES:
            hint = did_you_mean(name, _TORCH_NAMES) or f"; known: {', '.join(_TORCH_NAMES)}"
            raise OptionError(f"state: no place for {name!r} of torch{hint}")
    given = {name: _array_of_torch(name, array) for name, array in state.items()}
    apart = [name for name in _TORCH_WEIGHTS if name in given]
    if apart and "in_proj_weight" in given:
        raise OptionError(
            f"state: 'in_proj_weight' holds what {', '.join(map(repr, apart))} "
            f"{'hold' if apart[1:] else 'holds'}, too; leave one or the other out"
        )
    weights = _TORCH_WEIGHTS if apart else ("in_proj_weight",)
    for name in (*weights, "out_proj.weight"):
        if name not in given:
            raise OptionError(f"state: {name!r} is missing; got {', '.join(given) or 'nothing'}")
    whole = given["out_proj.weight"]  # (E, E)
    features = whole.shape[-1] if whole.ndim else 0
    if whole.shape != (features, features) or features % heads:
        raise ShapeError(
            f"out_proj.weight must have shape (E, E) with E a multiple of {heads} heads, "
            f"got {whole.shape}"
        )
    split = (heads, features // heads)
    if len(weights) == 1:
        stacked = given["in_proj_weight"]  # (3 E, E)
        each = _thirds("in_proj_weight", stacked, (3 * features, features))
    else:
        each = [given[name] for name in weights]
    arrays: Arrays = {}
    for name, source, weight in zip(_INPUTS, _TORCH_WEIGHTS, each, strict=True):
        if weight.ndim != 2 or weight.shape[0] != features:
            raise ShapeError(f"{source} must have shape ({features}, in), got {weight.shape}")
        arrays[f"{name}_weight"] = weight.T.reshape(weight.shape[1], *split)  # (in, N, D)
    arrays["output_weight"] = whole.T.reshape(*split, features)  # (N, D, E)
    if "in_proj_bias" in given:
        biases = _thirds("in_proj_bias", given["in_proj_bias"], (3 * features,))
        for name, bias in zip(_INPUTS, biases, strict=True):
            arrays[f"{name}_bias"] = bias.reshape(split)
    if "out_proj.bias" in given:
        arrays["output_bias"] = given["out_proj.bias"]
    return arrays


def keras_arrays(weights: Sequence[ArrayLike]) -> Arrays:
    """Our arrays from ``get_weights()`` of a Keras attention layer; the layout is the same.

    Raises
    ------
    OptionError
        For another number of arrays than 4 without biases, or 8 with.
    OptionTypeError
        For anything else than arrays in a row.
    """
    if not isinstance(weights, Sequence):
        raise OptionTypeError(
            f"weights must be a list of arrays, as layer.get_weights() returns, "
            f"got a {type(weights).__name__}"
        )
    parts = ("weight", "bias") if len(weights) == 8 else ("weight",)
    names = [f"{name}_{part}" for name in (*_INPUTS, "output") for part in parts]
    if len(weights) != len(names):
        raise OptionError(
            f"weights must be the 4 kernels, or the 4 kernels each with its bias, in the order "
            f"query, key, value, output; got {len(weights)} arrays"
        )
    return {name: as_array(name, array) for name, array in zip(names, weights, strict=True)}


def _array_of_torch(name: str, given: Any) -> Array:
    """The array of a tensor, which may be in training, on a GPU, or of bfloat16; or an array."""
    if hasattr(given, "detach"):  # torch itself need not be there
        try:
            tensor = given.detach().cpu()
            # what torch cannot give to NumPy float32 holds exactly
            given = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
        except (RuntimeError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise DTypeError(f"{name} must be a dense tensor of real numbers: {reason}") from error
    return as_array(name, given)


def _thirds(name: str, array: Array, shape: tuple[int, ...]) -> list[Array]:
    """What torch stacks: query, key and value."""
    if array.shape != shape:
        raise ShapeError(f"{name} must have shape {shape}, got {array.shape}")
    return np.split(array, 3)
