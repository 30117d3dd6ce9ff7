"""PyTorch's FlexAttention on a CPU, compiled as its documentation says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.peers import UnsupportedError, torch_eager
from benchmarks.problems import Inputs, Problem

version = torch_eager.version


def to_numpy(result: Any) -> Any:
    return result[0].numpy()


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    if problem.scorer != "scaled_dot" or problem.is_backward or problem.dtype == "float64":
        raise UnsupportedError("FlexAttention computes scaled_dot, forwards only on a CPU")
    torch.set_grad_enabled(False)
    q, k, v = (torch.from_numpy(each).reshape(1, -1, *each.shape[-2:]) for each in inputs[:3])
    mask = None
    if problem.is_causal:
        mask = create_block_mask(
            lambda _b, _h, i, j: i >= j, None, None, problem.L, problem.S, device="cpu"
        )
    compiled = torch.compile(flex_attention)
    return lambda: compiled(q, k, v, block_mask=mask)
