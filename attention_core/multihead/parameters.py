"""The arrays and components of a layer, their initial values, and their equality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from attention_core.arrays.scalars import check_size
from attention_core.arrays.seeds import random_generator
from attention_core.components.bias import Bias
from attention_core.components.component import Component
from attention_core.errors import OptionError
from attention_core.learned import glorot_uniform
from attention_core.multihead.heads import HeadGroup
from attention_core.multihead.layout import LAYOUT
from attention_core.normalizing.normalizer import Normalizer
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["BIAS_PREFIX", "LayerParameters", "initial_arrays"]

BIAS_PREFIX = "bias."
"""The prefix of the names of the bias's parameters in the layer."""


@dataclass(frozen=True, eq=False)
class LayerParameters:
    """The arrays of a layer and the groups of its heads; equal if they compute the same."""

    arrays: dict[str, Array]
    groups: tuple[HeadGroup, ...]
    normalizers: tuple[Normalizer, ...]
    """The normalizer of each head; groups have their part of parameters that differ."""
    zero_key: bool = False
    """Whether a key of zeros with a value of zeros is appended."""
    bias: Bias | None = None
    """The default bias of calls."""

    @property
    def heads(self) -> int:
        """N, the number of heads."""
        return int(self.arrays["query_weight"].shape[1])

    @property
    def key_heads(self) -> int:
        """M, the number of heads of keys and values."""
        return int(self.arrays["key_weight"].shape[1])

    @property
    def extra_keys(self) -> int:
        """The number of keys that the layer appends."""
        return ("extra_key" in self.arrays) + self.zero_key

    def extra_rows(self, name: str, dtype: np.dtype[np.generic]) -> Array:
        """The keys or values that the layer appends: (M, extra keys, D)."""
        weight, own = self.arrays[f"{name}_weight"], self.arrays.get(f"extra_{name}")
        rows = np.zeros((weight.shape[1], self.extra_keys, weight.shape[2]), dtype)
        if own is not None:
            rows[:, 0] = own
        return rows

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """The scorer of each head."""
        of_head = {head: group.attention.scorer for group in self.groups for head in group.heads}
        return tuple(of_head[head] for head in range(self.heads))

    @property
    def components(self) -> dict[str, Component]:
        """Scorers, normalizers and the bias, by the prefixes of the names of their parameters."""
        found: dict[str, Component] = {
            prefix: component
            for group in self.groups
            for prefix, component in (
                (group.scorer_prefix, group.attention.scorer),
                (group.normalizer_prefix, self.normalizers[group.heads[0]]),
            )
        }
        return found if self.bias is None else {**found, BIAS_PREFIX: self.bias}

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays of the layer, then those of its components."""
        return self.arrays | {
            f"{prefix}{name}": array
            for prefix, component in self.components.items()
            for name, array in component.parameters.items()
        }

    def components_with(self, parameters: Mapping[str, Array]) -> dict[str, Any]:
        """The arguments of a layer for its components, with some parameters replaced."""
        changed = {
            id(component): component.with_parameters(own)
            for prefix, component in self.components.items()
            if (
                own := {
                    name: parameters[f"{prefix}{name}"]
                    for name in component.parameters
                    if f"{prefix}{name}" in parameters
                }
            )
        }
        return {
            "scorer": [changed.get(id(one), one) for one in self.scorers],
            "normalizer": [changed.get(id(one), one) for one in self.normalizers],
            "bias": changed.get(id(self.bias), self.bias),
        }

    def __eq__(self, other: object) -> bool:
        """Compare arrays, components and the zero key."""
        if not isinstance(other, LayerParameters):
            return NotImplemented
        return self is other or (
            self.arrays.keys() == other.arrays.keys()
            and self.zero_key == other.zero_key
            and [group[1:] for group in self.groups] == [group[1:] for group in other.groups]
            and self.components.keys() == other.components.keys()
            and all(
                Component.__eq__(own, others) is True
                for own, others in zip(
                    self.components.values(), other.components.values(), strict=True
                )
            )
            and all(
                np.array_equal(array, other.arrays[name]) for name, array in self.arrays.items()
            )
        )

    def __hash__(self) -> int:
        """Hash the shapes of the arrays, which are cheap to read."""
        return hash(tuple((name, array.shape) for name, array in self.arrays.items()))


def initial_arrays(
    counts: Mapping[str, int | None], rng: int | np.random.Generator, *, biases: bool
) -> dict[str, Array]:
    """Draw Glorot-uniform weights; biases are 0.

    Parameters
    ----------
    counts
        The counts among the arguments of `MultiHeadAttention.initialize`; None if not given.

    Raises
    ------
    OptionError, OptionTypeError
        For impossible counts and seeds.
    """
    given = {name: count for name, count in counts.items() if count is not None}
    for name in ("query_dim", "heads"):
        check_size(name, counts[name])
    for name, count in given.items():
        check_size(name, count)
    query_dim, heads = given["query_dim"], given["heads"]
    if "head_dim" not in given and query_dim % heads:
        raise OptionError(
            f"query_dim must be a multiple of heads, or give head_dim; "
            f"got query_dim {query_dim} and {heads} heads"
        )
    key_dim = given.get("key_dim", query_dim)
    sizes = {
        "Eq": query_dim,
        "Ek": key_dim,
        "Ev": given.get("value_dim", key_dim),
        "Eo": given.get("output_dim", query_dim),
        "N": heads,
        "M": given.get("key_heads", heads),
        **dict.fromkeys(("Dq", "Dk", "Dv"), given.get("head_dim", query_dim // heads)),
    }
    random = random_generator(rng)
    arrays: dict[str, Array] = {}
    for name, axes in LAYOUT.items():
        shape = tuple(sizes[axis] for axis in axes)
        if name.endswith("_weight"):
            split = 2 if name == "output_weight" else 1
            fans = prod(shape[:split]), prod(shape[split:])
            arrays[name] = glorot_uniform(random, *fans).reshape(shape)
        elif biases and name.endswith("_bias"):
            arrays[name] = np.zeros(shape)
    return arrays
