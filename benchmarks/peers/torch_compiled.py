"""The additive score of PyTorch, compiled: broadcast sum, tanh and product become one loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers import torch_eager
from benchmarks.problems import Inputs, Problem

version, to_numpy = torch_eager.version, torch_eager.to_numpy


def prepare(problem: Problem, inputs: Inputs) -> Callable[[], Any]:
    return torch_eager.prepare(problem, inputs, transform=torch.compile)
