"""Keys and values projected once for every head, for a decoder that asks them step after step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import check_key_and_value
from attention_core.engine.memory import Memory
from attention_core.multihead.heads import checked_input, pick_heads, project_heads
from attention_core.multihead.parameters import HeadGroup
from attention_core.scoring.scorer import InnerProductScorer
from attention_core.typing import Array

__all__ = ["MultiHeadMemory", "seen_by_groups"]

Arrays = Mapping[str, Array]


class MultiHeadMemory:
    """Prepared keys and values of every head of a layer; grows at the end.

    Made by `MultiHeadAttention.memory`: the `Memory` of a layer, and for that layer alone. Keys and
    values are projected into the heads when they come in, never again, and so are keys by the
    scorers of the heads. Results taken before an append keep what they saw.

    Notes
    -----
    Keys and values are also kept as they came, so that gradients are those of what was given. The
    dtype of key and value decides what they are projected in, as with `Memory`.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    >>> words = np.random.default_rng(0).normal(size=(3, 4))
    >>> memory = layer.memory(words[:2], words[:2])
    >>> memory.append(words[2:], words[2:])
    >>> len(memory)
    3
    >>> bool(np.allclose(layer(words, memory).output, layer(words, words, words).output))
    True
    """

    def __init__(
        self, arrays: Arrays, groups: Sequence[HeadGroup], key: ArrayLike, value: ArrayLike
    ) -> None:
        self._arrays = arrays
        self.groups: Sequence[HeadGroup] = groups
        """The heads of each scorer, as the layer has them."""
        given = Memory(_AS_GIVEN, *self._checked(key, value))
        seen = seen_by_groups(arrays, groups, given.key, given.value)
        heads = [
            Memory(group.attention.scorer, *own) for group, own in zip(groups, seen, strict=True)
        ]
        self._kept = (given, *heads)

    def __len__(self) -> int:
        """S, the number of keys."""
        return len(self._kept[0])

    def __repr__(self) -> str:
        return f"MultiHeadMemory(key {self.key.shape}, value {self.value.shape})"

    @property
    def key(self) -> Array:
        """The keys that were given, in the dtype computed in: (..., S, Ek)."""
        return self._kept[0].key

    @property
    def value(self) -> Array:
        """The values that were given, in the dtype computed in: (..., S, Ev)."""
        return self._kept[0].value

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what was given, in which a call returns."""
        return self._kept[0].dtype

    @property
    def memories(self) -> tuple[Memory, ...]:
        """What the heads of each of the groups see: keys (..., heads, S, Dk) and values."""
        return self._kept[1:]

    def append(self, key: ArrayLike, value: ArrayLike) -> None:
        """Add keys (..., n, Ek) and their values (..., n, Ev).

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not continue those of the memory, which then stays as it was.
        """
        key, value = self._checked(key, value)
        given, *heads = map(copy, self._kept)  # they take the place of all, or of none
        given.append(key, value)
        rows = (array.astype(given.computing_dtype, copy=False) for array in (key, value))
        seen = seen_by_groups(self._arrays, self.groups, *rows)
        for memory, own in zip(heads, seen, strict=True):
            memory.append(*own)
        self._kept = (given, *heads)

    def _checked(self, key: ArrayLike, value: ArrayLike) -> tuple[Array, Array]:
        keys = checked_input(self._arrays, "key", key)
        values = checked_input(self._arrays, "value", value)
        check_key_and_value(keys, values)
        return keys, values


_AS_GIVEN = InnerProductScorer()
"""Projects nothing, so that a memory for it keeps what it is given."""


def seen_by_groups(
    arrays: Arrays, groups: Sequence[HeadGroup], key: Array, value: Array
) -> list[tuple[Array, Array]]:
    """The keys and values that the heads of each group see, (..., heads, S, D) of (..., S, E)."""
    workers = groups[0].attention.workers
    with np.errstate(all="ignore"):  # NaN and Inf in the inputs are results, not accidents
        keys, values = (
            project_heads(arrays, name, array, workers)
            for name, array in (("key", key), ("value", value))
        )
    return [
        (pick_heads(keys, group.seen_heads), pick_heads(values, group.seen_heads))
        for group in groups
    ]
