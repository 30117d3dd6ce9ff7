"""PyTorch's `torch.cdist`, for scores that are a distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers import UnsupportedError, torch_eager
from benchmarks.problems import Inputs, Problem

version, to_numpy = torch_eager.version, torch_eager.to_numpy
ORDERS = {"laplacian": 1.0, "rbf": 2.0}


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    if problem.scorer not in ORDERS:
        raise UnsupportedError(f"{problem.scorer} is not a distance")
    torch.set_grad_enabled(False)
    query, key, value = map(torch.from_numpy, inputs[:3])
    order = ORDERS[problem.scorer]

    def call() -> Any:
        scores = -(torch.cdist(query, key, p=order) ** order) / problem.D
        return torch.softmax(scores, -1) @ value

    return call
