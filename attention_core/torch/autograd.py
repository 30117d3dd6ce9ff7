"""A call of attention as a node of torch's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from attention_core.errors import NotDifferentiableError

__all__ = ["differentiated_once", "record"]

Pull = Callable[[Sequence[Any]], Sequence[Any]]
"""Maps gradients of the outputs, or None, to gradients of the inputs."""


def record(pull: Pull, outputs: Sequence[Any], tensors: Sequence[Any]) -> tuple[Any, ...]:
    """Connect outputs to the tensors that their gradients reach."""
    recorded: tuple[Any, ...] = _Node.apply(pull, tuple(outputs), *tensors)
    return recorded


def differentiated_once(grads: Sequence[Any], tensors: Sequence[Any]) -> Sequence[Any]:
    """Gradients that raise an error when differentiated again, instead of being constants.

    They depend on the tensors that the call depends on, or torch would take them for unrelated.
    """
    if not torch.is_grad_enabled():  # that is, with create_graph=True
        return grads
    given = [grad for grad in grads if grad is not None]
    marked = iter(_Once.apply(len(given), *given, *tensors))
    return [None if grad is None else next(marked) for grad in grads]


class _Node(torch.autograd.Function):
    """Precomputed outputs, with the pullback to the tensors that they depend on."""

    @staticmethod
    def forward(ctx: Any, pull: Pull, outputs: tuple[Any, ...], *tensors: Any) -> Any:
        ctx.set_materialize_grads(False)
        ctx.pull, ctx.tensors = pull, tensors
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None, *differentiated_once(ctx.pull(grads), ctx.tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotDifferentiableError(
            "attention has no forward-mode derivatives: use backward() or torch.autograd.grad"
        )


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *grads_and_tensors: Any) -> Any:
        return tuple(grad.clone() for grad in grads_and_tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotDifferentiableError(
            "attention has first derivatives only: its gradients, taken with create_graph=True, "
            "cannot be differentiated again"
        )
