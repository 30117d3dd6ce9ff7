"""Arrays and sizes as the loops of inner products read them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ctypes import Structure, c_int64
from math import prod
from typing import Any

import numpy as np

from attention_core.arrays.batch import Shape, with_batch_axes
from attention_core.arrays.strided import strides_of, with_contiguous_rows
from attention_core.compiled.modules import compiled_function
from attention_core.parallel.forks import COMPILING
from attention_core.typing import Array

__all__ = ["Layout", "Operands", "compiled_loop", "integers"]

# The arrays in the order of their strides.
_ARRAYS = "query", "key", "value", "mask", "context", "kept"


def integers(names: str) -> list[tuple[str, type[c_int64]]]:
    """Fields of a layout."""
    return [(name, c_int64) for name in names.split()]


class Layout(Structure):
    """Sizes, and addresses and strides in bytes.

    Batch items are counted from the last axis. `strides` has for each batch axis from the last its
    length, and the strides of queries, keys, values, mask, context and kept scores along it:
    (axes, 7). The mask has bytes; its address is 0 if there is none. Work is in pieces that threads
    share: `following` is the address of a counter that starts at 0.
    """

    _fields_ = integers(
        "items axes strides length key_length features value_features "
        "query key value mask query_step key_step value_step mask_step "
        "context context_step shift total memory following"
    )


def compiled_loop(
    text: str, name: str, layout: type[Layout], **numbers: Any
) -> Callable[[int], Any] | None:
    """A loop, given the address of a layout; None if compiling fails.

    In the text, ``{fields}`` reads the fields of the layout, of which there are ``{count}``.
    """
    classes = [kind for kind in reversed(layout.__mro__) if "_fields_" in vars(kind)]
    names = [name for kind in classes for name, *_ in vars(kind)["_fields_"]]
    fields = "\n    ".join([f"{field} = given[{n}]" for n, field in enumerate(names)])
    text = text.format(fields=fields, count=len(names), last=len(names) - 1, **numbers)
    with COMPILING, suppress(Exception):
        return compiled_function(text, name)
    return None


class Operands:
    """The arrays behind the addresses of a layout.

    Parameters
    ----------
    layout
        The layout to fill.
    batch
        Lengths of the batch axes.
    query, key, value : (..., L, H), (..., S, H), (..., S, Dv)
        Arrays with every batch axis, 1 to broadcast. The rows of keys and values are contiguous.
    """

    def __init__(
        self, layout: Layout, batch: Shape, query: Array, key: Array, value: Array
    ) -> None:
        self.layout, self.batch, self._alive = layout, batch, list[Array]()
        self.query, self.key, self.value = with_contiguous_rows(query), key, value
        self.strides = np.zeros((len(batch), 1 + len(_ARRAYS)), np.int64)
        self.strides[:, 0] = batch[::-1]
        layout.items, layout.axes = prod(batch), len(batch)
        layout.strides = self.strides.ctypes.data
        layout.length, layout.features = query.shape[-2:]
        layout.key_length, layout.value_features = value.shape[-2:]
        self.place("query", self.query)
        self.place("key", key)
        self.place("value", value)
        self._starts = layout.key, layout.value

    def address(self, array: Array) -> int:
        """The address of an array, which lives as long as the operands."""
        self._alive.append(array)
        return array.ctypes.data

    def place(self, name: str, array: Array) -> None:
        """Write the address and the strides of an array to the layout."""
        *found, step, _ = strides_of(array)
        setattr(self.layout, name, array.ctypes.data)
        setattr(self.layout, f"{name}_step", step)
        self.strides[:, 1 + _ARRAYS.index(name)] = found[::-1]

    def select(self, keys: slice, allowed: Array | None) -> None:
        """Choose a range of keys, and its mask."""
        layout, (key, value) = self.layout, self._starts
        layout.key_length = keys.stop - keys.start
        layout.key = key + keys.start * layout.key_step
        layout.value = value + keys.start * layout.value_step
        layout.mask = 0
        if allowed is not None:
            allowed = np.broadcast_to(allowed, (*allowed.shape[:-1], layout.key_length))
            self.mask = with_batch_axes(with_contiguous_rows(allowed), self.batch)
            self.place("mask", self.mask)
