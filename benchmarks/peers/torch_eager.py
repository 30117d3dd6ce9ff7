"""PyTorch: its own scaled dot-product attention; additive in three lines, as in its tutorials."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, scaled_dot_product_attention

from benchmarks.problems import Inputs, Problem


def version() -> str:
    return str(torch.__version__)


def prepare(
    problem: Problem, inputs: Inputs, transform: Callable[..., Any] = lambda function: function
) -> Callable[[], Any]:
    torch.set_grad_enabled(problem.is_backward or problem.is_training)
    query, key, value, query_weight, key_weight, score_weight = map(torch.from_numpy, inputs[:6])
    if problem.is_training:
        return training(transform(additive), inputs)
    if problem.is_backward:
        return backward(problem, inputs)
    if problem.scorer == "scaled_dot":
        q, k, v = (tensor.reshape(1, -1, *tensor.shape[-2:]) for tensor in (query, key, value))
        return lambda: scaled_dot_product_attention(q, k, v, is_causal=problem.is_causal)
    if problem.edges:
        ends = [torch.from_numpy(end) for end in inputs.edges]
        return lambda: graph(query @ query_weight, key @ key_weight, value, score_weight, *ends)
    if problem.scorer in SCORES:
        arrays = query, key, value, query_weight, key_weight, score_weight
        return partial(transform(SCORES[problem.scorer]), *arrays)
    function = transform(additive)
    if problem.is_prepared:
        prepared = key @ key_weight
        return lambda: function(query, prepared, value, query_weight, None, score_weight)
    return lambda: function(query, key, value, query_weight, key_weight, score_weight)


def backward(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    """The backward pass alone, with the residuals of the forward pass given."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in inputs[:6]]
    if problem.scorer == "scaled_dot":
        tensors = tensors[:3]
        q, k, v = (tensor.reshape(1, -1, *tensor.shape[-2:]) for tensor in tensors)
        result = scaled_dot_product_attention(q, k, v).reshape(inputs.grad.shape)
    else:
        result = additive(*tensors)
    grad = torch.from_numpy(inputs.grad)
    return lambda: torch.autograd.grad(result, tensors, grad, retain_graph=True)


def training(function: Callable[..., Tensor], inputs: Inputs) -> Callable[[], Any]:
    """The forward and the backward pass of a function."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in inputs[:6]]
    grad = torch.from_numpy(inputs.grad)
    return lambda: torch.autograd.grad(function(*tensors), tensors, grad)


def to_numpy(result: Any) -> Any:
    if isinstance(result, tuple):
        return torch.cat([tensor.ravel() for tensor in result]).numpy()
    return result.numpy()


def additive(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_weight: Tensor,
    key_weight: Tensor | None,
    score_weight: Tensor,
) -> Tensor:
    query = query @ query_weight
    key = key if key_weight is None else key @ key_weight
    hidden = torch.tanh(query[..., :, None, :] + key[..., None, :, :])
    return torch.softmax(hidden @ score_weight, -1) @ value


def laplacian(query: Tensor, key: Tensor, value: Tensor, *_: Tensor) -> Tensor:
    scores = -(query[..., :, None, :] - key[..., None, :, :]).abs().mean(-1)
    return torch.softmax(scores, -1) @ value


def rbf(query: Tensor, key: Tensor, value: Tensor, *_: Tensor) -> Tensor:
    scores = -(query[..., :, None, :] - key[..., None, :, :]).square().mean(-1)
    return torch.softmax(scores, -1) @ value


def gatv2(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_weight: Tensor,
    key_weight: Tensor,
    score_weight: Tensor,
) -> Tensor:
    query, key = query @ query_weight, key @ key_weight
    hidden = leaky_relu(query[..., :, None, :] + key[..., None, :, :], 0.2)
    return torch.softmax(hidden @ score_weight, -1) @ value


SCORES = {"laplacian": laplacian, "rbf": rbf, "gatv2": gatv2}


def graph(
    query: Tensor, key: Tensor, value: Tensor, score_weight: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    scores = torch.tanh(query[rows] + key[columns]) @ score_weight
    largest = scores.new_zeros(len(query)).scatter_reduce(
        0, rows, scores, "amax", include_self=False
    )
    weights = torch.exp(scores - largest[rows])
    weights /= torch.zeros_like(largest).index_add(0, rows, weights)[rows]
    return torch.zeros_like(value).index_add(0, rows, weights[:, None] * value[columns])
