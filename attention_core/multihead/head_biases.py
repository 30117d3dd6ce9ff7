"""The bias and the dropout of a layer, for a group of its heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attention_core.components.bias import Bias
from attention_core.masking.factors import Dropout
from attention_core.typing import Array

__all__ = ["BiasOfHeads", "bias_of_heads", "dropout_of_heads"]


class BiasOfHeads(Bias):
    """The part of a bias that belongs to some of a layer's heads.

    Parameters
    ----------
    bias
        Bias of all heads, with parameters for each or for all.
    heads
        The heads, out of `count`.
    """

    def __init__(self, bias: Bias, heads: Sequence[int], count: int) -> None:
        self.bias, self.heads, self.count = bias, list(heads), count

    @property
    def parameters(self) -> dict[str, Array]:
        """The parameters of the bias, of all heads."""
        return self.bias.parameters

    def tile(self, query_positions: Array, key_positions: Array) -> Array:
        """The part of the bias of all heads."""
        values = np.asarray(self.bias.tile(self._of_all(query_positions), key_positions))
        return self._part(values)

    def tile_vjp(
        self, query_positions: Array, key_positions: Array, grad: Array
    ) -> dict[str, Array]:
        """The gradients, without contributions of other heads."""
        *outer, _, length, key_length = grad.shape
        whole = np.zeros((*outer, self.count, length, key_length), grad.dtype)
        whole[..., self.heads, :, :] = grad
        return self.bias.tile_vjp(self._of_all(query_positions), key_positions, whole)

    def __str__(self) -> str:
        return str(self.bias)

    def _part(self, values: Array) -> Array:
        has_heads = values.ndim >= 3 and values.shape[-3] == self.count
        return values[..., self.heads, :, :] if has_heads else values

    def _of_all(self, positions: Array) -> Array:
        """Positions with an axis for all heads, if they have one for this group."""
        if positions.ndim < 3 or positions.shape[-3] == 1:
            return positions
        whole = np.repeat(positions[..., :1, :, :], self.count, axis=-3)
        whole[..., self.heads, :, :] = positions
        return whole


def bias_of_heads(bias: Bias, heads: Sequence[int], count: int) -> Bias:
    """The bias itself for all heads, or its part for some of them."""
    return bias if len(heads) == count else BiasOfHeads(bias, heads, count)


def dropout_of_heads(dropout: Dropout, heads: Sequence[int]) -> Dropout:
    """Change the seed for heads that follow others, so that each drops different weights.

    >>> dropout_of_heads(Dropout(0.5, 1), [0, 1]), dropout_of_heads(Dropout(0.5, 1), [2])
    (Dropout(rate=0.5, seed=1), Dropout(rate=0.5, seed=4354685564936845355))
    """
    seed = (dropout.seed + heads[0] * 0x9E3779B97F4A7C15) % 2**63
    return Dropout(dropout.rate, seed)
