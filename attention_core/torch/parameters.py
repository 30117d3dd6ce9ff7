"""Parameters of attention and of layers by name, read and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attention_core.attention import Attention
from attention_core.components.component import Component
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.typing import Array

__all__ = ["Core", "parameters_of", "with_parameters"]

Core = Attention | MultiHeadAttention


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
    """The same with these parameters, which are all that it has."""
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


def _components(core: Attention) -> dict[str, Component]:
    found = {"scorer": core.scorer, "normalizer": core.normalizer, "bias": core.bias}
    return {kind: component for kind, component in found.items() if component is not None}
