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

from attention_core.arrays.adapters import TERMS, library_of
from attention_core.arrays.batch import broadcast_batch
from attention_core.arrays.inputs import (
    as_integers,
    check_key_and_value,
    integers_per_item,
    is_sparse,
    to_numpy,
)
from attention_core.arrays.scalars import is_end
from attention_core.components.bias import Bias
from attention_core.engine.prepare import prepare
from attention_core.errors import DTypeError, OptionError, OptionTypeError, ShapeError
from attention_core.jax.arrays import to_array
from attention_core.jax.calls import INPUTS, Call, Operands, traced
from attention_core.libraries.cores import Core, has_log_normalizer, result_shapes
from attention_core.masking.arguments import make_terms
from attention_core.masking.condition import MaskObject
from attention_core.masking.factors import Dropout
from attention_core.masking.packing import Packing
from attention_core.multihead.head_axes import HeadAxes
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.multihead.projections import checked_input
from attention_core.registry.resolution import resolve_bias

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
        if inputs[2] is None:
            raise OptionTypeError("value is missing: give it after key")
        query, key, value = map(_checked_array, INPUTS, inputs)
        self.is_single = query.ndim == 1
        query = query[None] if self.is_single else query
        _check(core, (query, key, value))
        rank = max(array.ndim for array in (query, key, value))
        self.operands: Operands = {
            name: _with_rank(array, rank)
            for name, array in zip(INPUTS, (query, key, value), strict=True)
        }
        named = {name: _checked_array(name, array) for name, array in parameters.items()}
        self.operands |= {"parameters": named, "terms": {}}
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
        if name == "bias":
            term = resolve_bias(term)
        if name in _PAIRS:
            is_object = callable(term) or is_sparse(term)
            is_object |= isinstance(term, (Bias, Dropout, MaskObject))
        else:
            is_object = name == "query_offset" and is_end(term)
        if not (term is None or is_object or library_of(term)):
            if name in _PAIRS:
                term = to_numpy(name, term)
            else:
                integers = as_integers(name, term, each=", one per batch item")
                for limit in (integers.min(initial=0), integers.max(initial=0)):
                    numbers: dict[str, Any] = {name: int(limit)}
                    make_terms((), 1, 1, **numbers)  # raises for impossible ones
                if (np.abs(integers) > np.iinfo(np.int32).max).any():  # JAX would change them
                    self.arguments[name] = term
                    return
                term = integers.astype(np.int32)
        if not isinstance(term, (jax.Array, np.ndarray)):
            if term is not None:
                self.arguments[name] = to_array(name, term)
            return
        # raises for a dtype that the call with numbers refuses, when no caller could catch it
        stand_in: dict[str, Any] = {name: np.zeros((1,) * (name in _PAIRS), term.dtype)}
        make_terms((), 1, 1, **stand_in)
        term = jnp.asarray(term)
        if name in _PAIRS:
            term = self._pairs(name, term, rank)
        else:
            if not isinstance(self.arguments.get("mask"), Packing):
                integers_per_item(name, np.zeros(term.shape, np.int64), self._weights()[:-2])
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
        expected = (*self._weights()[:-1], self.operands["key"].shape[-2])  # no keys of a layer
        try:
            fits = np.broadcast_shapes(term.shape, expected) == expected
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"{name} must broadcast to {expected}, got {term.shape}")
        return _with_rank(term, rank)

    def _weights(self) -> tuple[int, ...]:
        """The shape of the weights."""
        query, key, value = (self.operands[name].shape for name in INPUTS)
        return result_shapes(self.core, query, key, value, np.broadcast_shapes)[-1]


def _checked_array(name: str, given: Any) -> Any:
    """An array of JAX or NumPy, which has a dtype of NumPy."""
    if isinstance(given, np.ndarray):
        return to_numpy(name, given)  # raises for masked entries
    if not isinstance(given, jax.Array):
        raise DTypeError(
            f"{name} must be an array of JAX or NumPy, got a {type(given).__name__}; convert it "
            f"with jax.numpy.asarray({name})"
        )
    if not isinstance(given.dtype, np.dtype):
        raise DTypeError(f"{name} must hold real numbers, got dtype {given.dtype}")
    return given


def _check(core: Core, inputs: tuple[Any, Any, Any]) -> None:
    """Check shapes and dtypes, with the errors of a call on NumPy arrays."""
    # no memory is used for these zeros
    dummies = [np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in inputs]
    if isinstance(core, MultiHeadAttention):
        for name, dummy in zip(INPUTS, dummies, strict=True):
            checked_input(core.arrays, name, dummy)
        check_key_and_value(*dummies[1:])
        broadcast_batch(*(dummy.shape for dummy in dummies))
    else:
        prepare(core.scorer, *dummies)


def _with_rank(array: Any, rank: int) -> Any:
    """An array with `rank` axes, those before its own of length 1."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
