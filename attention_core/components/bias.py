"""The contract of biases: numbers added to the scores, depending on positions."""

from __future__ import annotations

from abc import abstractmethod

from attention_core.components.component import Component
from attention_core.errors import NotDifferentiableError
from attention_core.typing import Array

__all__ = ["Bias"]


class Bias(Component):
    """A bias added to the scores: a function of positions, with trainable parameters.

    A subclass implements `tile` and, if it has parameters, `tile_vjp`. Both are pure. Constructor
    arguments are stored as attributes of the same name; those that are arrays are the parameters.

    The engine evaluates one tile of positions at a time and sums the gradients of tiles, so nothing
    of size L x S is ever made. On the edges of a sparse mask it evaluates pairs, as tiles of one
    key: what `tile` returns for a pair must not depend on the other positions.

    Parameters may differ between heads: their axis is the last batch axis of the scores.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> class Gap(ac.Bias):
    ...     "-cost for every pair farther apart than one position"
    ...
    ...     def __init__(self, cost=1.0):
    ...         self.cost = np.asarray(cost, dtype=float)
    ...
    ...     def tile(self, query_positions, key_positions):
    ...         return -self.cost * (abs(key_positions - query_positions) > 1)
    ...
    ...     def tile_vjp(self, query_positions, key_positions, grad):
    ...         return {"cost": -(grad * (abs(key_positions - query_positions) > 1)).sum()}
    >>> x = np.eye(4)
    >>> result = ac.attend(x, x, x, scorer="dot", bias=Gap(2.0))
    >>> result.scores[0]
    array([ 1.,  0., -2., -2.])
    >>> gradients = result.vjp(np.eye(4))
    >>> gradients.bias
    {'cost': array(0.12371233)}
    """

    kind = "bias"

    @abstractmethod
    def tile(self, query_positions: Array, key_positions: Array) -> Array:
        """The bias of some pairs of positions.

        Parameters
        ----------
        query_positions : (..., l, 1) integers
            Indices of queries plus `query_offset`, with batch axes if offsets differ.
        key_positions : (..., s) integers
            Indices of keys. Both count from the start of each packed sequence.

        Returns
        -------
        array
            Real numbers that broadcast to (..., l, s). With parameters of n heads, the axis before
            the last two has length n.
        """

    def tile_vjp(
        self, query_positions: Array, key_positions: Array, grad: Array
    ) -> dict[str, Array]:
        """Gradients of parameters by name, from the gradient of a tile: (..., l, s).

        `grad` has every batch axis of the scores, and all of the last one.
        """
        if self.parameters:
            raise NotDifferentiableError(
                f"{self} has no gradients: class {type(self).__name__} defines tile without "
                f"tile_vjp; define\n  def tile_vjp(self, query_positions, key_positions, grad) -> "
                f"dict of arrays by name"
            )
        return {}
