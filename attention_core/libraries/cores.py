"""One interface to `Attention` and layers: parameters, gradients and shapes of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from attention_core.attention import Attention
from attention_core.components.component import Component
from attention_core.engine.gradients import Gradients
from attention_core.errors import (
    OptionError,
    OptionTypeError,
    ScorerConfigError,
    did_you_mean,
    listed,
    shown,
)
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.normalizing.normalizer import Normalizer
from attention_core.typing import Array

__all__ = [
    "Core",
    "check_memory",
    "check_parameters",
    "gradient_of",
    "has_log_normalizer",
    "output_name",
    "parameters_of",
    "result_shapes",
    "with_parameters",
]

Core = Attention | MultiHeadAttention
"""A callable of NumPy arrays, which an adapter calls with the arrays of its library."""

Shape = tuple[int, ...]


def parameters_of(core: Core) -> dict[str, Array]:
    """The parameters by name; those of an `Attention` begin with the kind of their component.

    >>> import attention_core as ac
    >>> distances = ac.make_bias("relative", max_distance=2)
    >>> list(parameters_of(ac.Attention("dot", normalizer=ac.Softmax(sink=0.0), bias=distances)))
    ['normalizer.sink', 'bias.table']
    """
    if isinstance(core, MultiHeadAttention):
        return core.parameters
    return {
        f"{kind}.{name}": array
        for kind, component in _components(core).items()
        for name, array in component.parameters.items()
    }


def with_parameters(core: Core, arrays: Mapping[str, Array]) -> Core:
    """A copy with these parameters, which must be complete."""
    if not arrays:
        return core
    if isinstance(core, MultiHeadAttention):
        return core.with_parameters(arrays)
    changed: dict[str, Any] = {
        kind: component.with_parameters(
            {name: arrays[f"{kind}.{name}"] for name in component.parameters}
        )
        for kind, component in _components(core).items()
    }
    return Attention(**(vars(core) | changed))


def check_parameters(core: Core, arrays: Any) -> None:
    """Raise `ScorerConfigError` unless these are the parameters of an attention or a layer.

    >>> import numpy as np
    >>> import attention_core as ac
    >>> core = ac.Attention({"name": "general", "query_dim": 2, "key_dim": 2, "rng": 0})
    >>> check_parameters(core, {"scorer.weights": np.eye(2)})
    Traceback (most recent call last):
    attention_core.errors.ScorerConfigError: parameters: unknown 'scorer.weights'; did you mean \
'scorer.weight'? They must be: scorer.weight
    """
    expected = {name: array.shape for name, array in parameters_of(core).items()}
    needed = f"They must be: {listed(expected) or 'none'}"
    if not isinstance(arrays, Mapping):
        raise ScorerConfigError(
            f"parameters must be a mapping of arrays by name, got {shown(arrays)}. {needed}"
        )
    for name in arrays:
        if name not in expected:
            hint = did_you_mean(str(name), expected) or "."
            raise ScorerConfigError(f"parameters: unknown {shown(name)}{hint} {needed}")
    for name, shape in expected.items():
        if name not in arrays:
            raise ScorerConfigError(f"parameters: {name!r} is missing. {needed}")
        if np.shape(arrays[name]) != shape:
            raise ScorerConfigError(
                f"parameters: {name!r} must have shape {shape}, got {np.shape(arrays[name])}"
            )


def check_memory(key: Any, value: Any, memory: type, queries: str) -> None:
    """Raise for a value given with a memory, a missing value, and a memory of NumPy arrays.

    `queries` completes the message: what the query is, and how to make the memory.
    """
    if isinstance(key, memory):
        if value is not None:
            raise OptionTypeError("value must be omitted: the memory holds the values")
    elif value is None:
        if hasattr(key, "serves"):
            raise OptionError(f"this memory holds NumPy arrays, and query is {queries}")
        raise OptionTypeError("value is missing: give it after key, or a memory as key")


def gradient_of(name: str, found: Gradients) -> Any:
    """The gradient of an input or a parameter, such as ``scorer.weight``, by its name."""
    if name in ("query", "key", "value", "bias"):
        return getattr(found, name)
    part, _, own = name.partition(".")
    if part == "bias":  # None where another bias was given to the call
        return found.bias[own] if isinstance(found.bias, dict) else None
    kinds = {"scorer": found.parameters, "normalizer": found.normalizer}
    return kinds[part][own] if part in kinds else found.parameters[name]


def output_name(core: Core) -> str:
    """The name of the main field of a result."""
    return "output" if isinstance(core, MultiHeadAttention) else "context"


def has_log_normalizer(core: Core) -> bool:
    """Whether every head has a log-normalizer."""
    normalizers = core.normalizers if isinstance(core, MultiHeadAttention) else [core.normalizer]
    own = Normalizer.log_normalizer
    return all(type(normalizer).log_normalizer is not own for normalizer in normalizers)


def result_shapes(
    core: Core, query: Shape, key: Shape, value: Shape, broadcast: Callable[..., Shape]
) -> tuple[Shape, Shape, Shape]:
    """The shapes of the output, the log-normalizer and the weights.

    >>> import numpy as np
    >>> import attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, output_dim=3, rng=0)
    >>> result_shapes(layer, (7, 5, 4), (6, 4), (6, 4), np.broadcast_shapes)
    ((7, 5, 3), (7, 2, 5), (7, 2, 5, 6))
    """
    batch = tuple(broadcast(query[:-2], key[:-2], value[:-2]))
    length = query[-2:-1]  # empty for a single query
    keys, width, heads = key[-2], value[-1], batch
    if isinstance(core, MultiHeadAttention):
        width = core.arrays["output_weight"].shape[-1]
        heads = (*batch, core.heads)
        keys = keys + ("extra_key" in core.arrays) + core.zero_key
    return (*batch, *length, width), (*heads, *length), (*heads, *length, keys)


def _components(core: Attention) -> dict[str, Component]:
    found = {"scorer": core.scorer, "normalizer": core.normalizer, "bias": core.bias}
    return {kind: component for kind, component in found.items() if component is not None}
