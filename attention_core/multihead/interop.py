"""Arrays of torch and Keras layers, converted to our layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array
from attention_core.arrays.scalars import check_count, check_flag
from attention_core.errors import (
    DTypeError,
    OptionError,
    OptionTypeError,
    ShapeError,
    did_you_mean,
    shown,
)
from attention_core.multihead.layout import INPUTS
from attention_core.typing import Array

__all__ = ["TorchLayer", "from_torch_module", "from_torch_state", "keras_arrays"]

Arrays = dict[str, Array]

_STACKED = "in_proj_weight"
_APART = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
_ADDED = {"bias_k": "extra_key", "bias_v": "extra_value"}
_KNOWN = (_STACKED, *_APART, "in_proj_bias", "out_proj.weight", "out_proj.bias", *_ADDED)

# Layers of other kinds keep their projections in separate modules with these names.
_SEPARATE = ("query.weight", "q_proj.weight", "q_lin.weight", "to_q.weight")
_SEPARATE_NAMES = (
    *_APART, "out_proj.weight", "out_proj.bias",
    "in_proj_bias (the biases of query, key and value, one after another)",
)  # fmt: skip


class TorchLayer(NamedTuple):
    """A converted ``torch.nn.MultiheadAttention``."""

    arrays: Arrays
    zero_key: bool


def from_torch_module(module: Any, heads: int | None, add_zero_attn: bool | None) -> TorchLayer:
    """Convert a ``torch.nn.MultiheadAttention``.

    Raises
    ------
    OptionError
        For arguments that contradict the module.
    OptionTypeError
        For a module of another kind.
    """
    needed = ("num_heads", "add_zero_attn", "out_proj", "in_proj_weight")
    if not all(hasattr(module, name) for name in needed):
        inside = [
            name
            for name, part in getattr(module, "named_modules", lambda: ())()
            if all(hasattr(part, own) for own in needed)
        ]
        hint = f"; give one of its parts: {', '.join(inside)}" if inside else ""
        raise OptionTypeError(
            f"module must be a torch.nn.MultiheadAttention or its state_dict(), "
            f"got a {type(module).__name__}{hint}"
        )
    own = {
        "heads": (heads, module.num_heads),
        "add_zero_attn": (add_zero_attn, module.add_zero_attn),
    }
    for name, (given, known) in own.items():
        if given is not None and given != known:
            raise OptionError(
                f"{name} must be omitted, or equal that of the module, {known}, got {shown(given)}"
            )
    return from_torch_state(module.state_dict(), module.num_heads, module.add_zero_attn)


def from_torch_state(
    state: Mapping[str, ArrayLike], heads: int | None, add_zero_attn: bool | None
) -> TorchLayer:
    """Convert the state of a ``torch.nn.MultiheadAttention``, whose weights are (out, in).

    Raises
    ------
    OptionError, OptionTypeError
        For names that are missing, given in both ways, or unexpected, and an impossible number
        of heads.
    ShapeError
        For arrays that do not fit each other, or the number of heads.
    DTypeError
        For tensors that are not dense arrays of real numbers.

    Examples
    --------
    >>> state = {"in_proj_weight": np.ones((12, 4)), "out_proj.weight": np.ones((4, 4))}
    >>> from_torch_state(state, heads=2, add_zero_attn=None).arrays["output_weight"].shape
    (2, 2, 4)
    """
    if not isinstance(state, Mapping):
        raise OptionTypeError(
            f"state must be a torch.nn.MultiheadAttention, or a mapping of names to arrays, as "
            f"its state_dict() returns, got a {type(state).__name__}"
        )
    if heads is None:
        raise OptionTypeError(
            "heads is missing: a state does not contain the number of heads; give heads=, or the "
            "module instead of its state"
        )
    check_count("heads", heads)
    if add_zero_attn is not None:
        check_flag("add_zero_attn", add_zero_attn)
    given = _named(state)
    each, whole, features = _weights(given, heads)
    split = (heads, features // heads)
    arrays: Arrays = {}
    for name, weight in zip(INPUTS, each, strict=True):
        arrays[f"{name}_weight"] = weight.T.reshape(weight.shape[1], *split)  # (in, N, D)
    arrays["output_weight"] = whole.T.reshape(*split, features)  # (N, D, E)
    if "in_proj_bias" in given:
        biases = _thirds("in_proj_bias", given["in_proj_bias"], (3 * features,))
        for name, bias in zip(INPUTS, biases, strict=True):
            arrays[f"{name}_bias"] = bias.reshape(split)
    if "out_proj.bias" in given:
        arrays["output_bias"] = given["out_proj.bias"]
    for theirs, ours in _ADDED.items():
        if theirs in given:
            if given[theirs].shape != (1, 1, features):
                raise ShapeError(
                    f"{theirs} must have shape {(1, 1, features)}, got {given[theirs].shape}"
                )
            arrays[ours] = given[theirs].reshape(split)
    return TorchLayer(arrays, bool(add_zero_attn))


def keras_arrays(weights: Sequence[ArrayLike]) -> Arrays:
    """Name the arrays of ``get_weights()`` of a Keras attention layer, which has our layout.

    Raises
    ------
    OptionError
        For another number of arrays than 4 without biases, or 8 with.
    OptionTypeError
        For anything but a sequence of arrays.
    """
    if not isinstance(weights, Sequence):
        raise OptionTypeError(
            f"weights must be a list of arrays, as layer.get_weights() returns, "
            f"got a {type(weights).__name__}"
        )
    parts = ("weight", "bias") if len(weights) == 8 else ("weight",)
    names = [f"{name}_{part}" for name in (*INPUTS, "output") for part in parts]
    if len(weights) != len(names):
        raise OptionError(
            f"weights must be the 4 kernels, or the 4 kernels each with its bias, in the order "
            f"query, key, value, output; got {len(weights)} arrays"
        )
    return {name: as_array(name, array) for name, array in zip(names, weights, strict=True)}


def _named(state: Mapping[str, ArrayLike]) -> Arrays:
    """The arrays of a state that holds those of an attention layer and nothing else."""
    for name in state:
        if name not in _KNOWN:
            raise OptionError(f"state: unexpected key {name!r}{_way_out(state, name)}")
    given = {name: _array_of_torch(name, array) for name, array in state.items()}
    apart = [name for name in _APART if name in given]
    if apart and _STACKED in given:
        raise OptionError(
            f"state: {_STACKED!r} and {', '.join(map(repr, apart))} "
            f"hold the same weights; give only one"
        )
    needed = (*(_APART if apart else (_STACKED,)), "out_proj.weight")
    needed += tuple(_ADDED) if any(name in given for name in _ADDED) else ()
    for name in needed:
        if name not in given:
            raise OptionError(f"state: {name!r} is missing; got {', '.join(given) or 'nothing'}")
    return given


def _way_out(state: Mapping[str, ArrayLike], name: object) -> str:
    """Advice on a state with a key that attention layers do not have."""
    prefixes = _prefixes(state, (_STACKED, _APART[0]))
    if prefixes:
        found = ", ".join(map(repr, prefixes[:3])) + (", ..." if prefixes[3:] else "")
        return (
            f"; this is the state of a larger module, with attention layers under {found}; give "
            f"one of them: {{k.removeprefix(p): v for k, v in state.items() if k.startswith(p)}} "
            f"with p = {prefixes[0]!r}"
        )
    for key in map(str, state):
        if key.endswith(_SEPARATE):
            return (
                f"; this is the state of another kind of layer, with a module for each projection: "
                f"give the arrays of one layer by the names of torch, such as "
                f"{{'q_proj_weight': state[{key!r}], ...}}; needed are {', '.join(_SEPARATE_NAMES)}"
            )
    return did_you_mean(str(name), _KNOWN) or f"; known: {', '.join(_KNOWN)}"


def _prefixes(state: Mapping[str, ArrayLike], suffixes: tuple[str, ...]) -> list[str]:
    """The parts of keys before one of these suffixes, in order."""
    return [
        prefix
        for name in map(str, state)
        for suffix in suffixes
        if name.endswith(suffix) and (prefix := name.removesuffix(suffix)).endswith(".")
    ]


def _weights(given: Arrays, heads: int) -> tuple[list[Array], Array, int]:
    """The weights of query, key and value, (E, in), that of the output (E, E), and E."""
    whole = given["out_proj.weight"]
    features = whole.shape[-1] if whole.ndim else 0
    if whole.shape != (features, features) or features % heads:
        raise ShapeError(
            f"out_proj.weight must have shape (E, E) with E a multiple of {heads} heads, "
            f"got {whole.shape}"
        )
    if _STACKED in given:
        each = _thirds(_STACKED, given[_STACKED], (3 * features, features))
    else:
        each = [given[name] for name in _APART]
    for source, weight in zip(_APART, each, strict=True):
        if weight.ndim != 2 or weight.shape[0] != features:
            raise ShapeError(f"{source} must have shape ({features}, in), got {weight.shape}")
    return each, whole, features


def _array_of_torch(name: str, given: Any) -> Array:
    """Convert an array or a tensor, which may require gradients, be on a GPU, or be bfloat16."""
    if hasattr(given, "detach"):  # torch need not be installed
        try:
            tensor = given.detach().cpu()
            # float32 holds exactly the values that torch cannot convert to NumPy
            given = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
        except (RuntimeError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise DTypeError(f"{name} must be a dense tensor of real numbers: {reason}") from error
    return as_array(name, given)


def _thirds(name: str, array: Array, shape: tuple[int, ...]) -> list[Array]:
    """Split an array that torch stacks into the parts of query, key and value."""
    if array.shape != shape:
        raise ShapeError(f"{name} must have shape {shape}, got {array.shape}")
    return np.split(array, 3)
