"""A `Bias` component in one call: its tiles and gradients, with checks of what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from attention_core.arrays.batch import Batch, Item, Shape, broadcasts
from attention_core.arrays.inputs import is_real
from attention_core.components.bias import Bias
from attention_core.errors import (
    AttentionCoreError,
    ScorerContractError,
    ShapeError,
    Stopped,
    note_call,
)
from attention_core.masking.bias import Contributions
from attention_core.masking.positions import Positions
from attention_core.typing import Array

__all__ = ["NamedBias"]


class NamedBias:
    """A `Bias`, evaluated tile by tile for all heads.

    Raises
    ------
    ShapeError
        If the parameters and the scores have different numbers of heads.
    """

    in_whole_batches = False
    in_whole_heads = True

    def __init__(self, bias: Bias, positions: Positions, shape: Shape) -> None:
        self.bias, self.positions, self.batch = bias, positions, shape[:-2]
        origin = np.zeros((1, 1), np.int64)
        if not broadcasts(self._values(origin, origin).shape, (*self.batch, 1, 1)):
            raise ShapeError(
                f"{bias} has parameters of shapes "
                f"{', '.join(str(own.shape) for own in bias.parameters.values())}, which do not "
                f"fit scores of batch shape {self.batch}: parameters per head need the last "
                f"batch axis"
            )

    def tile(self, batch: Batch, rows: slice, keys: slice, dtype: np.dtype[Any]) -> Array:
        """The bias of a tile."""
        places = self.positions.of_tile(batch, rows, keys)
        outer = [part.stop - part.start for part in batch]
        expected = (*outer, rows.stop - rows.start, keys.stop - keys.start)
        return self._checked(places, expected).astype(dtype, copy=False)

    def pairs(self, item: Item, queries: Array, keys: Array, dtype: np.dtype[Any]) -> Array:
        """The bias of pairs (e,), selected from that of all heads."""
        expected = (*self.batch[-1:], len(keys), 1)
        values = self._checked(self.positions.of_pairs(item, queries, keys), expected)
        found: Array = np.broadcast_to(values, expected)[item[-1:]][:, 0]
        return found.astype(dtype, copy=False)

    def zeros(self, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Zeros for the parameters, in float64, since they are few."""
        return {name: np.zeros(own.shape) for name, own in self.bias.parameters.items()}

    def tile_vjp(self, batch: Batch, rows: slice, keys: slice, grad: Array) -> Contributions:
        """The gradients of the parameters."""
        return self._vjp(self.positions.of_tile(batch, rows, keys), grad)

    def pairs_vjp(self, item: Item, queries: Array, keys: Array, grad: Array) -> Contributions:
        """The gradients of the parameters; other heads contribute nothing."""
        heads = np.zeros((*self.batch[-1:], len(keys), 1), grad.dtype)
        heads[item[-1:]] = grad[:, None]
        return self._vjp(self.positions.of_pairs(item, queries, keys), heads)

    def as_given(self, found: Mapping[str, Array]) -> dict[str, Array]:
        """The gradients by name, in the dtypes of the parameters."""
        parameters = self.bias.parameters
        return {k: own.astype(parameters[k].dtype, copy=False) for k, own in found.items()}

    def _vjp(self, places: tuple[Array, Array], grad: Array) -> Contributions:
        grad = grad.view()
        grad.flags.writeable = False
        grads = _called(self.bias, "tile_vjp", self.bias.tile_vjp, *places, grad)
        shapes = {name: own.shape for name, own in self.bias.parameters.items()}
        if not isinstance(grads, Mapping):
            raise ScorerContractError(
                f"{self.bias} returned {type(grads).__name__} from tile_vjp; expected a dict of "
                f"parameters' gradients"
            )
        arrays = {name: _real(self.bias, "tile_vjp", own) for name, own in grads.items()}
        for name, own in arrays.items():
            if shapes.get(name, ()) != own.shape or name not in shapes:
                raise ScorerContractError(
                    f"{self.bias} returned a gradient of {name!r} of shape {own.shape} from "
                    f"tile_vjp; its parameters: {shapes or 'none'}"
                )
        return [(name, ..., own.copy()) for name, own in arrays.items()]

    def _checked(self, places: tuple[Array, Array], expected: Shape) -> Array:
        values = self._values(*places)
        if not broadcasts(values.shape, expected):
            raise ScorerContractError(
                f"{self.bias} returned shape {values.shape} from tile for query positions "
                f"{places[0].shape} and key positions {places[1].shape}; expected a shape "
                f"that broadcasts to {expected}"
            )
        return values

    def _values(self, queries: Array, keys: Array) -> Array:
        return _real(self.bias, "tile", _called(self.bias, "tile", self.bias.tile, queries, keys))


def _real(bias: Bias, method: str, found: Any) -> Array:
    """The result of a method as an array of real numbers."""
    array = np.asarray(found)
    if not is_real(array.dtype) or isinstance(found, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(found, np.ma.MaskedArray) else f"dtype {array.dtype}"
        raise ScorerContractError(f"{bias} returned {kind} from {method}; expected real numbers")
    return array


def _called(bias: Bias, method: str, function: Callable[..., Any], *arrays: Array) -> Any:
    """Call a method; exceptions keep their type and get a note that names the bias."""
    try:
        return function(*arrays)
    except (AttentionCoreError, Stopped):
        raise
    except BaseException as error:
        note_call(error, bias, method, [array.shape for array in arrays])
        raise
