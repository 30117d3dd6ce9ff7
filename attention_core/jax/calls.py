"""A call of attention that JAX can trace: a callback, with a callback for its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import numpy as np

from attention_core.arrays.inputs import computing_dtype, is_sparse
from attention_core.errors import ScorerContractError, message_of
from attention_core.libraries.cores import (
    Core,
    gradient_of,
    output_name,
    result_shapes,
    with_parameters,
)
from attention_core.typing import Array

__all__ = ["Call", "traced"]

INPUTS = ("query", "key", "value")
Operands = dict[str, Any]
"""The arrays of a call: query, key, value, bias, and dicts of parameters and of other terms."""


@dataclass(frozen=True, eq=False)
class Call:
    """Everything about a call that is not an array."""

    core: Core
    """The attention or the layer; the values of parameters that are operands do not matter."""
    arguments: Mapping[str, Any]
    """Arguments that are not arrays, such as a mask that is a function."""
    outputs: tuple[str, ...]
    """The fields of the result that are returned."""

    def shapes(self, operands: Operands) -> tuple[Any, ...]:
        """The shapes and dtypes of the outputs."""
        inputs = [operands[name] for name in INPUTS]
        query, key, value = (array.shape for array in inputs)
        output, log, weights = result_shapes(self.core, query, key, value, np.broadcast_shapes)
        floats = [a.dtype if _is_float(a.dtype) else np.dtype(np.float64) for a in inputs]
        computed, returned = map(jax.dtypes.canonicalize_dtype, computing_dtype(*floats))
        found = {
            output_name(self.core): jax.ShapeDtypeStruct(output, returned),
            "log_normalizer": jax.ShapeDtypeStruct(log, computed),
            "weights": jax.ShapeDtypeStruct(weights, returned),
        }
        return tuple(found[name] for name in self.outputs)

    def result(self, operands: Operands) -> Any:
        """The result with NumPy arrays."""
        core: Any = with_parameters(self.core, operands["parameters"])
        terms = {**self.arguments, **operands["terms"]}
        if "bias" in operands:
            terms["bias"] = operands["bias"]
        return core(*(operands[name] for name in INPUTS), **terms)

    def compute(self, operands: Operands) -> tuple[Array, ...]:
        """The outputs."""
        result = self.result(operands)
        fields = (getattr(result, name) for name in self.outputs)
        return tuple(field.toarray() if is_sparse(field) else field for field in fields)

    def compute_batch(
        self, ranks: Mapping[str, int], operands: Operands, front: tuple[int, ...]
    ) -> tuple[Array, ...] | None:
        """The outputs of items as one batch; None if parameters differ between them.

        `ranks` are the numbers of axes of the parameters, `front` the axes of the items, which are
        batch axes of everything else.
        """
        parameters = {}
        for name, array in operands["parameters"].items():
            own = array.shape[array.ndim - ranks[name] :]
            if array.size != prod(own):
                return None
            parameters[name] = array.reshape(own)
        query = operands["query"]
        whole = np.broadcast_to(query, front + query.shape[len(front) :])
        return self.compute({**operands, "query": whole, "parameters": parameters})

    def pull(self, operands: Operands, grads: tuple[Array, ...]) -> Operands:
        """The gradients of all operands except the other terms."""
        given = {f"grad_{name}": grad for name, grad in zip(self.outputs, grads, strict=True)}
        found = self.result(operands).vjp(**given)
        names = [*INPUTS, *(["bias"] if "bias" in operands else [])]
        pulled: Operands = {name: gradient_of(name, found) for name in names}
        pulled["parameters"] = {
            name: np.zeros_like(array) if (own := gradient_of(name, found)) is None else own
            for name, array in operands["parameters"].items()
        }
        return pulled


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def traced(call: Call, operands: Operands) -> Any:
    """The outputs of a call."""
    ranks = {name: array.ndim for name, array in operands["parameters"].items()}
    as_batch = None if call.arguments else partial(call.compute_batch, ranks)
    return _called_back(call.compute, call.shapes(operands), operands, as_batch=as_batch)


def _forward(call: Call, operands: Operands) -> tuple[Any, Operands]:
    return traced(call, operands), operands


def _backward(call: Call, operands: Operands, grads: Any) -> tuple[Operands]:
    shapes = {
        name: jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), own)
        for name, own in operands.items()
        if name != "terms"
    }
    found = _called_back(call.pull, shapes, operands, grads)
    floating = {name: _without_integers(found[name], operands[name]) for name in found}
    return ({**floating, "terms": dict.fromkeys(operands["terms"])},)


traced.defvjp(_forward, _backward)


def _called_back(
    function: Callable[..., Any],
    shapes: Any,
    *operands: Any,
    as_batch: Callable[..., Any] | None = None,
) -> Any:
    """Call a function of NumPy arrays; under ``vmap``, once for each item if they differ."""
    ranks = tuple(leaf.ndim for leaf in jax.tree.leaves(operands))
    each = _EachItem(function, ranks, shapes, as_batch)
    return jax.pure_callback(each, shapes, *operands, vmap_method="expand_dims")


@dataclass(frozen=True, eq=False)
class _EachItem:
    """A function of arrays, to which ``vmap`` may have added leading axes."""

    function: Callable[..., Any]
    ranks: tuple[int, ...]
    """The numbers of axes of the operands without those of ``vmap``."""
    shapes: Any
    as_batch: Callable[..., Any] | None = None
    """The same for all items together; None where that would not be equivalent."""

    def __call__(self, *operands: Any) -> Any:
        try:
            return self._outputs(*operands)
        except Exception as error:
            if not (notes := getattr(error, "__notes__", None)):
                raise
            # JAX shows the traceback and the message of an error, but not its notes
            noted = ScorerContractError(f"{notes[0]}: {message_of(error)}")
            raise noted.with_traceback(error.__traceback__) from None

    def _outputs(self, *operands: Any) -> Any:
        leaves, tree = jax.tree.flatten(operands)
        arrays = [np.asarray(leaf) for leaf in leaves]
        fronts = [a.shape[: a.ndim - rank] for a, rank in zip(arrays, self.ranks, strict=True)]
        front = np.broadcast_shapes(*fronts)
        out = jax.tree.map(lambda one: np.empty(front + one.shape, one.dtype), self.shapes)
        if self.as_batch is not None and front:
            found = self.as_batch(*jax.tree.unflatten(tree, arrays), front)
            if found is not None:
                jax.tree.map(partial(_write, ()), out, found)
                return out
        wholes = [
            np.broadcast_to(array, front + array.shape[array.ndim - rank :])
            for array, rank in zip(arrays, self.ranks, strict=True)
        ]
        for index in np.ndindex(front):
            item = jax.tree.unflatten(tree, [whole[index] for whole in wholes])
            jax.tree.map(partial(_write, index), out, self.function(*item))
        return out


def _write(index: tuple[int, ...], out: Array, found: Any) -> None:
    with np.errstate(over="ignore", under="ignore"):  # half precision may give Inf or 0
        out[index] = found


def _without_integers(grads: Any, operands: Any) -> Any:
    """Gradients, with None for those of integers."""
    return jax.tree.map(lambda g, a: g if _is_float(a.dtype) else None, grads, operands)


def _is_float(dtype: Any) -> bool:
    return bool(jax.numpy.issubdtype(dtype, jax.numpy.floating))
