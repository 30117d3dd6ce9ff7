"""Gradients on dask arrays: one task for each block, and trees that sum their contributions.

Given the final state of its rows, a block can compute its final weights. Blocks therefore
contribute to gradients independently of each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property, reduce
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize

from attention_core.arrays.inputs import as_array
from attention_core.components.values import show_fields
from attention_core.dask.call import LazyCall
from attention_core.dask.graph import Layer, Tasks, array_layer, make_layer, tree
from attention_core.dask.grid import as_dask
from attention_core.dask.work import block_vjp
from attention_core.errors import OptionTypeError, ShapeError
from attention_core.typing import Array

__all__ = ["DaskGradients", "lazy_vjp"]


class DaskGradients(NamedTuple):
    """Lazy gradients of a loss with respect to the inputs of attention, in their shapes and dtypes.

    Those of query, key, value and a bias array have the chunks of the blocks; those of
    parameters are one chunk. Integers have gradients in float64.
    """

    query: da.Array
    """(..., L, Dq), or (Dq,)"""
    key: da.Array
    """(..., S, Dk)"""
    value: da.Array
    """(..., S, Dv)"""
    bias: da.Array | dict[str, da.Array] | None
    """In the shape of an array, by name for a `Bias`; None without one, or for a function."""
    parameters: dict[str, da.Array]
    """The scorer's parameters by name."""
    normalizer: dict[str, da.Array]
    """The normalizer's parameters by name, such as ``sink``."""

    def __repr__(self) -> str:
        return show_fields(self)


def lazy_vjp(
    call: LazyCall,
    context: da.Array,
    grad_context: Any,
    log_normalizer: da.Array | None,
    grad_log_normalizer: Any,
) -> DaskGradients:
    """The gradients that `DaskResult.vjp` returns."""
    call.scorer.check_differentiable()
    call.normalizer.check_differentiable()
    if grad_context is None and grad_log_normalizer is None:
        raise OptionTypeError("give grad_context or grad_log_normalizer")
    grid = call.grid
    grad = of_log = None
    if grad_context is not None:
        chunks = (*grid.batch, grid.rows, context.shape[-1:])
        grad = _checked("grad_context", grad_context, context, call.is_single, chunks)
    if log_normalizer is not None:
        given = grad_log_normalizer
        chunks = (*grid.batch, grid.rows)
        of_log = _checked("grad_log_normalizer", given, log_normalizer, call.is_single, chunks)
    sums = _Sums(call, tokenize(call.token, grad, of_log))
    for index, blocks in grid.blocks.items():
        for number, block in blocks.items():
            sums.tasks[(sums.name, *index, number)] = (
                *(block_vjp, call.work.name, block, number == next(iter(blocks))),
                call.state_of(index),
                None if grad is None else (grad.name, *index, 0),
                None if of_log is None else (of_log.name, *index),
                *grid.keys_of(index, number),
            )
    sums.sources += [array for array in (grad, of_log) if array is not None]
    query, key, value = (
        sums.of_array(name, position, dtype)
        for position, (name, dtype) in enumerate(zip(_INPUTS, call.dtypes, strict=True))
    )
    bias: Any = None
    if call.bias is not None:
        bias = sums.of_parameters("bias", call.bias.parameters)
    elif grid.arrays[4] is not None:
        dtype = as_array("bias", np.empty(0, grid.arrays[4].dtype)).dtype
        bias = sums.of_array("bias", 4, dtype)
        bias = bias[..., 0, :] if call.is_single and bias.ndim else bias
    return DaskGradients(
        query[0] if call.is_single else query,
        key,
        value,
        bias,
        sums.of_parameters("parameters", call.scorer.parameters),
        sums.of_parameters("normalizer", call.normalizer.parameters),
    )


_INPUTS = "query", "key", "value"


class _Sums:
    """The tasks of blocks, and the sums of their contributions."""

    def __init__(self, call: LazyCall, token: str) -> None:
        self.call, self.token = call, token
        self.name = f"attend-vjp-{token}"
        self.tasks = Tasks()
        self.sources: list[Any] = [call.states, call.work, *call.grid.sources]

    @cached_property
    def layer(self) -> Layer:
        """The tasks of blocks."""
        return make_layer(self.name, self.tasks, self.sources)

    def of_array(self, field: str, position: int, dtype: np.dtype[Any]) -> da.Array:
        """The gradient of an array of the call, in its blocks."""
        array = self.call.grid.arrays[position]
        assert array is not None
        parts = defaultdict(list)
        for index, number, _ in self.call.blocks():
            parts[self.call.grid.key_of(position, index, number)[1:]].append((*index, number))
        name, tasks, sums = f"attend-grad-{field}-{self.token}", Tasks(), {}
        for place in np.ndindex(array.numblocks):
            keys = self._picked(tasks, field, parts[place])
            shape = tuple([own[i] for own, i in zip(array.chunks, place, strict=True)])
            sums[place] = tree(
                tasks,
                (f"attend-add-{field}-{self.token}", *place),
                keys,
                lambda keys: (_added, keys),
                lambda keys, shape=shape: (_finished, keys, shape, dtype),  # type: ignore[misc]  # has a default
            )
        layer = make_layer(f"attend-add-{field}-{self.token}", tasks, [self.layer])
        return array_layer(name, sums, [layer], array.chunks, dtype)

    def of_parameters(self, field: str, parameters: Mapping[str, Array]) -> dict[str, da.Array]:
        """The gradients of parameters: sums over all blocks."""
        base, tasks = f"attend-add-{field}-{self.token}", Tasks()
        every = [(*index, number) for index, number, _ in self.call.blocks()]
        keys = self._picked(tasks, field, every)
        tasks[base] = tree(
            tasks, (base,), keys, lambda keys: (_added, keys), lambda keys: (_added, keys)
        )
        layer = make_layer(base, tasks, [self.layer])
        return {
            name: array_layer(
                f"attend-grad-{field}-{name}-{self.token}",
                {(0,) * own.ndim: (_of_name, base, name, own.shape, own.dtype)},
                [layer],
                [(n,) for n in own.shape],
                own.dtype,
            )
            for name, own in parameters.items()
        }

    def _picked(self, tasks: Tasks, field: str, places: list[Any]) -> list[Any]:
        """Tasks that pick one gradient of each block, so the others are not sent with it."""
        keys = [(f"attend-pick-{field}-{self.token}", *place) for place in places]
        tasks.update({key: (getattr, (self.name, *key[1:]), field) for key in keys})
        return keys


def _checked(
    name: str, given: Any, output: da.Array, is_single: bool, chunks: tuple[Any, ...]
) -> da.Array:
    """A gradient of an output in the chunks of the call, with the axis of queries."""
    grad, what = as_dask(name, given), name.removeprefix("grad_")
    as_array(name, np.empty(0, grad.dtype))
    if grad.shape != output.shape:
        raise ShapeError(
            f"{name} must have the shape of the {what}, {output.shape}, got {grad.shape}"
        )
    if is_single:
        grad = grad[..., None, :] if what == "context" else grad[..., None]
    return grad.rechunk(chunks)


def _added(parts: list[Any]) -> Any:
    """The sum of arrays, or of arrays by name."""
    with np.errstate(all="ignore"):  # NaN and Inf in the inputs are results, not accidents
        if not parts or not isinstance(parts[0], dict):
            return reduce(np.add, parts) if parts else {}
        return {
            name: reduce(np.add, [part[name] for part in parts if name in part])
            for name in dict.fromkeys(name for part in parts for name in part)
        }


def _finished(parts: list[Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The sum of arrays in a dtype: zeros without any."""
    total: Array = _added(parts) if parts else np.zeros(shape)
    with np.errstate(over="ignore", under="ignore"):
        return total.reshape(shape).astype(dtype, copy=False)


def _of_name(
    sums: Mapping[str, Array], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """The gradient of a parameter: zeros where no block has one."""
    found = np.zeros(shape) if name not in sums else np.asarray(sums[name])
    return found.astype(dtype, copy=False)
