"""The arguments of a call of several heads: checks, and the part of each group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_integers, is_sparse, to_numpy
from attention_core.components.bias import Bias
from attention_core.errors import ShapeError
from attention_core.masking.condition import MaskObject
from attention_core.masking.factors import Dropout
from attention_core.masking.positions import called
from attention_core.multihead.head_biases import bias_of_heads, dropout_of_heads
from attention_core.multihead.heads import pick_heads
from attention_core.typing import Array

__all__ = ["HeadAxes"]


class HeadAxes(NamedTuple):
    """The batch axes and the axis of heads of a call, for checking and selecting arguments."""

    batch: int
    """The number of batch axes."""
    heads: int
    """N, the number of heads."""

    def checked(self, name: str, pairs: Any) -> Any:
        """Check a mask or bias that broadcasts to (..., N, L, S).

        With batched rows, an array of more than two axes must have all axes, unless its axis of
        heads has length 1: (8, L, S) could mean heads or batch items. Axes of length 1 before those
        of the batch are dropped, so that (1, N, L, S) fits rows without a batch.

        Raises
        ------
        ShapeError
            For an array that is ambiguous, or whose axis of heads has another length; for nested
            lists of different lengths.
        """
        if _is_for_all(pairs) or callable(pairs) or isinstance(pairs, (Bias, Dropout)):
            return pairs
        array = to_numpy(name, pairs)
        while array.ndim > self.batch + 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim < 3 or array.shape[-3] == 1:
            return array
        *outer, own, length, keys = array.shape
        if array.ndim < self.batch + 3:
            whole = "(batch, N, L, S)" if self.batch == 1 else "(..., N, L, S)"
            ones = (1,) * (self.batch + 3 - array.ndim)
            raise ShapeError(
                f"{name} is ambiguous where rows are batched: the axes of {array.shape} could be "
                f"heads or batch items; give all of {whole}, {(*ones, *array.shape)} for heads, "
                f"or {(*ones[1:], *outer, own, 1, length, keys)} for batch items"
            )
        if own != self.heads:
            raise ShapeError(
                f"{name} must broadcast to (..., N, L, S) with N = {self.heads} heads, got "
                f"{array.shape}; one per batch item needs an axis for the heads, "
                f"{name}[..., None, :, :]"
            )
        return array

    def pairs(self, name: str, pairs: Any, heads: Sequence[int], offset: ArrayLike | None) -> Any:
        """Select the part of some heads from a checked mask or bias.

        A function is evaluated at the positions of all heads, which differ if `offset` does.

        Raises
        ------
        ShapeError
            For a function whose result is ambiguous, or does not fit the heads.
        """
        if _is_for_all(pairs):
            return pairs
        if isinstance(pairs, Bias):
            return bias_of_heads(pairs, heads, self.heads)
        if isinstance(pairs, Dropout):
            return dropout_of_heads(pairs, heads)
        if callable(pairs):
            return self._function(name, pairs, heads, offset)
        return pairs if pairs.ndim < 3 or pairs.shape[-3] == 1 else pick_heads(pairs, heads)

    def numbers(self, name: str, numbers: ArrayLike | None, heads: Sequence[int]) -> Any:
        """Select the part of some heads from lengths or offsets.

        Raises
        ------
        ShapeError
            For an array whose axis of heads has another length.
        """
        if numbers is None or not self._differs(numbers):
            return numbers
        array = as_integers(name, numbers)
        if array.shape[self.batch] != self.heads:
            raise ShapeError(
                f"{name} must hold one integer, one per batch item, or one per batch item and "
                f"head, with {self.heads} heads; got shape {array.shape}"
            )
        return array.take(heads, self.batch)

    def _differs(self, numbers: ArrayLike | None) -> bool:
        """Whether lengths or offsets differ between heads."""
        try:
            shape = () if numbers is None else np.shape(numbers)
        except ValueError:  # nested lists of different lengths, which the call names
            return False
        return len(shape) > self.batch and shape[self.batch] != 1

    def _function(
        self, name: str, function: Callable[..., Any], heads: Sequence[int], offset: Any
    ) -> Callable[..., Any]:
        shift: Any = None
        if self._differs(offset) and len(heads) < self.heads:
            offsets = as_integers("query_offset", offset)[..., None, None]  # (..., N, 1, 1)
            shift = offsets - offsets[..., heads[0], None, :, :]

        def of_heads(queries: Array, keys: Array) -> Any:
            if shift is not None:  # positions of the first of these heads, then of all
                queries = queries[..., :1, :, :] + shift
            values = self.checked(name, called(name, function, queries, keys))
            return self.pairs(name, values, heads, None)

        return of_heads


def _is_for_all(pairs: Any) -> bool:
    """Whether a mask or bias is the same for every head."""
    return pairs is None or is_sparse(pairs) or isinstance(pairs, MaskObject)
