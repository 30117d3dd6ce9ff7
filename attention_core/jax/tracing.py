"""Arguments of a call that JAX traces: checked, and with the axes that ``vmap`` needs.

``vmap`` adds leading axes. They stay in front of all batch axes if all arrays have the same number
of axes, so axes of length 1 are inserted. Shapes are checked before there are values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attention_core.arrays.adapters import TERMS
from attention_core.engine.prepare import prepare
from attention_core.errors import OptionError, OptionTypeError, ShapeError
from attention_core.jax.arrays import to_array
from attention_core.jax.calls import INPUTS, Call, Operands, traced
from attention_core.libraries.cores import Core, has_log_normalizer, result_shapes
from attention_core.masking.arguments import make_terms
from attention_core.multihead.head_axes import HeadAxes
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.multihead.projections import checked_input

__all__ = ["TracedCall"]

_PAIRS = ("mask", "bias", "weight_factors")
"""Terms with axes of queries and keys; the others have batch axes only."""


class TracedCall:
    """A call whose outputs are computed on demand."""

    def __init__(
        self,
        core: Core,
        parameters: Mapping[str, Any],
        inputs: tuple[Any, Any, Any],
        terms: tuple[Any, ...],
        query_offset: Any,
    ) -> None:
        self.core = core
        self.is_single = inputs[0].ndim == 1
        query, key, value = inputs
        if value is None:
            raise OptionTypeError("value is missing: give it after key")
        query = query[None] if self.is_single else query
        _check(core, (query, key, value))
        rank = max(array.ndim for array in (query, key, value))
        self.operands: Operands = {
            name: _with_rank(array, rank)
            for name, array in zip(INPUTS, (query, key, value), strict=True)
        }
        self.operands |= {"parameters": dict(parameters), "terms": {}}
        self.arguments: dict[str, Any] = {}
        for name, term in zip((*TERMS, "query_offset"), (*terms, query_offset), strict=True):
            self._add(name, term, rank)

    def outputs(self, *names: str) -> tuple[Any, ...]:
        """Some fields of the result, as JAX arrays."""
        if "log_normalizer" in names and not has_log_normalizer(self.core):
            raise OptionError(
                "this normalizer has no log_normalizer: its weights are not exponentials divided "
                "by a sum"
            )
        found: tuple[Any, ...] = traced(Call(self.core, self.arguments, names), self.operands)
        if not self.is_single:
            return found
        axes = (-1 if name == "log_normalizer" else -2 for name in names)
        return tuple(jnp.squeeze(own, axis) for own, axis in zip(found, axes, strict=True))

    def _add(self, name: str, term: Any, rank: int) -> None:
        """Add an argument to the operands if it is an array, and to the other arguments if not."""
        if isinstance(term, (bool, int, float, list, np.ndarray, np.generic)):
            term = jnp.asarray(term)
        if not isinstance(term, jax.Array):
            if term is not None:
                self.arguments[name] = to_array(name, term)
            return
        # raises for a dtype that the call with numbers refuses, when no caller could catch it
        stand_in: dict[str, Any] = {name: np.zeros((1,) * (name in _PAIRS), term.dtype)}
        make_terms((), 1, 1, **stand_in)
        if name in _PAIRS:
            term = self._pairs(name, term, rank)
        else:
            term = term.reshape(term.shape + (1,) * (rank - 2 - term.ndim))
        own = self.operands if name == "bias" else self.operands["terms"]
        own[name] = term

    def _pairs(self, name: str, term: Any, rank: int) -> Any:
        """An array that broadcasts to the weights, with all of their axes."""
        if self.is_single and term.ndim:
            term = term[..., None, :]
        if isinstance(self.core, MultiHeadAttention):
            HeadAxes(rank - 2, self.core.heads).checked(name, np.broadcast_to(0.0, term.shape))
            rank += 1
        query, key, value = (self.operands[name].shape for name in INPUTS)
        *_, weights = result_shapes(self.core, query, key, value, np.broadcast_shapes)
        expected = (*weights[:-1], key[-2])  # without keys of a layer
        try:
            fits = np.broadcast_shapes(term.shape, expected) == expected
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"{name} must broadcast to {expected}, got {term.shape}")
        return _with_rank(term, rank)


def _check(core: Core, inputs: tuple[Any, Any, Any]) -> None:
    """Check shapes and dtypes, with the errors of a call on NumPy arrays."""
    # no memory is used for these zeros
    dummies = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in inputs]
    if isinstance(core, MultiHeadAttention):
        for name, dummy in zip(INPUTS, dummies, strict=True):
            checked_input(core.arrays, name, dummy)
        np.broadcast_shapes(*(dummy.shape[:-2] for dummy in dummies))
        if dummies[1].shape[-2] != dummies[2].shape[-2]:
            raise ShapeError(
                f"key (..., S, Ek) and value (..., S, Ev) must agree on S, got key "
                f"{dummies[1].shape} and value {dummies[2].shape}"
            )
    else:
        prepare(core.scorer, *dummies)


def _with_rank(array: Any, rank: int) -> Any:
    """An array with `rank` axes, those before its own of length 1."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
