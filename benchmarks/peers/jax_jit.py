"""JAX under jit: its own scaled dot-product attention, and additive in three lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import UnsupportedError
from benchmarks.problems import Array, Inputs, Problem


def version() -> str:
    return jax.__version__


def to_numpy(result: Any) -> Array:
    if isinstance(result, tuple):
        return np.concatenate([np.ravel(array) for array in result])
    array: Array = np.asarray(result)
    return array.swapaxes(-2, -3) if array.ndim == 4 else array


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    arrays: list[Any] = [jnp.asarray(array) for array in inputs[:6]]
    if problem.is_backward:
        return backward(problem, inputs)
    if problem.scorer == "scaled_dot":
        if problem.dtype == "float16":
            raise UnsupportedError("on CPUs JAX's dot_product_attention takes no float16")
        # the layout is (batch, length, heads, features)
        heads = [
            jnp.moveaxis(array.reshape(-1, *array.shape[-2:]), 0, -2)[None] for array in arrays[:3]
        ]
        attend = jax.jit(jax.nn.dot_product_attention, static_argnames="is_causal")

        def call() -> Any:
            return attend(*heads, is_causal=problem.is_causal).block_until_ready()

        return call
    if problem.is_prepared:
        arrays[1], arrays[4] = arrays[1] @ arrays[4], None
    compiled = jax.jit(additive)
    return lambda: compiled(*arrays).block_until_ready()


def backward(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    """The backward pass alone, with the residuals of the forward pass given."""
    arrays = [jnp.asarray(array) for array in inputs[:6]]
    if problem.scorer == "scaled_dot":
        _, pull = jax.vjp(scaled_dot, *arrays[:3])
    else:
        _, pull = jax.vjp(additive, *arrays)
    compiled = jax.jit(lambda pull, grad: pull(grad))
    grad = jnp.asarray(inputs.grad)
    return lambda: jax.block_until_ready(compiled(pull, grad))


def scaled_dot(*arrays: Any) -> Any:
    heads = [jnp.moveaxis(array.reshape(-1, *array.shape[-2:]), 0, -2)[None] for array in arrays]
    attended = jax.nn.dot_product_attention(*heads)[0]
    return jnp.moveaxis(attended, -2, 0).reshape(arrays[0].shape)


def additive(query: Any, key: Any, value: Any, query_weight: Any, key_weight: Any, v: Any) -> Any:
    query = query @ query_weight
    key = key if key_weight is None else key @ key_weight
    hidden = jnp.tanh(query[..., :, None, :] + key[..., None, :, :])
    return jax.nn.softmax(hidden @ v, -1) @ value
