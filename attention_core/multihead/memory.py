"""Keys and values that are projected once for every head, for the steps of a decoder."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import check_key_and_value
from attention_core.arrays.quiet import quiet_context
from attention_core.engine.memory import Memory
from attention_core.multihead.heads import HeadGroup, pick_heads
from attention_core.multihead.parameters import LayerParameters
from attention_core.multihead.projections import checked_input, project_heads
from attention_core.scoring.inner_product import InnerProductScorer
from attention_core.typing import Array

__all__ = ["MultiHeadMemory", "seen_by_groups"]


class MultiHeadMemory:
    """Projected keys and values of every head of a layer, to which more can be appended.

    `MultiHeadAttention.memory` makes it. It serves that layer and equal layers. Keys and values are
    projected once, into the heads and by the scorers of the heads. Results do not change when the
    memory does. Copies are independent and take constant time; memories can be pickled.

    Notes
    -----
    The original keys and values are kept for gradients. Keys and values are projected in their own
    dtype, as in `Memory`.

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

    def __init__(self, layer: LayerParameters, key: ArrayLike, value: ArrayLike) -> None:
        self._layer = layer
        given = Memory(_AS_GIVEN, *self._checked(key, value))
        seen = seen_by_groups(layer, given.key, given.value, layer.groups[0].attention.workers)
        heads = [
            Memory(group.attention.scorer, *own)
            for group, own in zip(layer.groups, seen, strict=True)
        ]
        self._kept = (given, *heads)

    def __len__(self) -> int:
        """S, the number of keys."""
        return len(self._kept[0])

    def __repr__(self) -> str:
        return f"MultiHeadMemory(key {self.key.shape}, value {self.value.shape})"

    @property
    def groups(self) -> tuple[HeadGroup, ...]:
        """The groups of heads with the same scorer and normalizer."""
        return self._layer.groups

    @property
    def key(self) -> Array:
        """The original keys, in the dtype of the computation: (..., S, Ek)."""
        return self._kept[0].key

    @property
    def value(self) -> Array:
        """The original values, in the dtype of the computation: (..., S, Ev)."""
        return self._kept[0].value

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the original keys and values, and of results."""
        return self._kept[0].dtype

    @property
    def nbytes(self) -> int:
        """The size of original and projected keys and values in bytes, including reserved rows."""
        return sum(memory.nbytes for memory in self._kept)

    @property
    def memories(self) -> tuple[Memory, ...]:
        """The keys (..., heads, S, Dk) and values of the heads of each group."""
        return self._kept[1:]

    def serves(self, layer: LayerParameters) -> bool:
        """Whether the memory was made by this layer or an equal one."""
        if layer is not self._layer:
            if layer != self._layer:
                return False
            self._layer = layer  # compared once
        return True

    @checked_arguments
    def append(self, key: ArrayLike, value: ArrayLike) -> None:
        """Add keys (..., n, Ek) and their values (..., n, Ev).

        Raises
        ------
        ShapeError, DTypeError
            For arrays that do not fit the memory, which then does not change.
        """
        key, value = self._checked(key, value)
        given, *heads = map(copy, self._kept)  # replaced together or not at all
        given.append(key, value)
        dtype, workers = given.computing_dtype, self.groups[0].attention.workers
        rows = key.astype(dtype, copy=False), value.astype(dtype, copy=False)
        seen = seen_by_groups(self._layer, *rows, workers)
        for memory, own in zip(heads, seen, strict=True):
            memory.append(*own)
        self._kept = (given, *heads)

    @checked_arguments
    def take(self, indices: ArrayLike, axis: int = 0) -> Self:
        """Make a memory of some batch items, in any order and with repetitions: see `Memory.take`.

        Raises
        ------
        OptionError, OptionTypeError, ShapeError
            For batch items and axes that the memory does not have.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
        >>> words = np.random.default_rng(0).normal(size=(3, 5, 4))  # 3 hypotheses of 5 words
        >>> layer.memory(words, words).take([2, 0])
        MultiHeadMemory(key (2, 5, 4), value (2, 5, 4))
        """
        given = self._kept[0].take(indices, axis)
        batch = np.broadcast_shapes(self.key.shape[:-2], self.value.shape[:-2])
        own_axis = axis % len(batch)  # the same from the front, as heads come last
        memory = copy(self)
        memory._kept = (given, *(heads.take(indices, own_axis) for heads in self.memories))
        return memory

    @checked_arguments
    def truncate(self, length: int) -> None:
        """Keep the first `length` keys and values: see `Memory.truncate`.

        Raises
        ------
        OptionError, OptionTypeError
            For a length that is not an integer from 0 to the number of keys.
        """
        kept = tuple(map(copy, self._kept))
        for memory in kept:
            memory.truncate(length)
        self._kept = kept

    def clear(self) -> None:
        """Remove all keys and values, and free their memory; batch axes are kept."""
        kept = tuple(map(copy, self._kept))
        for memory in kept:
            memory.clear()
        self._kept = kept

    def _checked(self, key: ArrayLike, value: ArrayLike) -> tuple[Array, Array]:
        keys = checked_input(self._layer.arrays, "key", key)
        values = checked_input(self._layer.arrays, "value", value)
        check_key_and_value(keys, values)
        return keys, values


_AS_GIVEN = InnerProductScorer()
"""A scorer without projections, for the memory of the original keys and values."""


def seen_by_groups(
    layer: LayerParameters, key: Array, value: Array, workers: int | None
) -> list[tuple[Array, Array]]:
    """The keys and values of the heads of each group: (..., S, E) -> (..., heads, S, D)."""
    keys, values = (
        quiet_context().run(project_heads, layer.arrays, name, array, workers)
        for name, array in (("key", key), ("value", value))
    )
    return [
        (pick_heads(keys, group.seen_heads), pick_heads(values, group.seen_heads))
        for group in layer.groups
    ]
