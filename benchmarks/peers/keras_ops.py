"""Keras on the backend that KERAS_BACKEND names: its dot-product op and its additive layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from benchmarks.problems import Array, Inputs, Problem


def version() -> str:
    return str(keras.__version__)


def to_numpy(result: Any) -> Array:
    array: Array = ops.convert_to_numpy(result)
    return array.swapaxes(-2, -3) if array.ndim == 4 else array


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    if keras.backend.backend() == "torch":
        import torch

        torch.set_grad_enabled(False)
    arrays = [ops.convert_to_tensor(array) for array in inputs[:6]]
    query, key, value, query_weight, key_weight, score_weight = arrays
    if problem.scorer == "scaled_dot":
        # the layout is (batch, length, heads, features)
        heads = [
            ops.moveaxis(ops.reshape(array, (-1, *array.shape[-2:])), 0, -2)[None]
            for array in arrays[:3]
        ]
        return lambda: ops.dot_product_attention(*heads, is_causal=problem.is_causal)
    if not problem.batch:
        query, key, value = (array[None] for array in (query, key, value))
    layer = keras.layers.AdditiveAttention()
    layer.build([(*problem.batch, n, problem.H) for n in (problem.L, problem.S, problem.S)])
    layer.scale.assign(score_weight)
    prepared = ops.matmul(key, key_weight) if problem.is_prepared else None

    def call() -> Any:
        keys = ops.matmul(key, key_weight) if prepared is None else prepared
        return layer([ops.matmul(query, query_weight), value, keys])

    return call
