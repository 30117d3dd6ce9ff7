"""Results whose fields are tensors, with gradients through context, weights and normalizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch

from attention_core.engine.gradients import Gradients
from attention_core.libraries.cores import gradient_of
from attention_core.libraries.readouts import Readouts
from attention_core.torch.autograd import record
from attention_core.torch.tensors import to_array, to_tensor

__all__ = ["Recorded", "TensorHeadsResult", "TensorResult"]


class Recorded(NamedTuple):
    """A NumPy result, and the tensors that it depends on."""

    result: Any
    """An `AttentionResult` or a `MultiHeadResult`."""
    tensors: dict[str, Any]
    """The tensors by name: query, key, value, bias, and the parameters."""
    dtype: torch.dtype

    def weights(self) -> Any:
        """The weights, with gradients unless they are sparse."""
        weights = to_tensor(self.result.weights, self.dtype)
        return weights if weights.is_sparse else self.through([weights], "grad_weights")[0]

    def log_normalizer(self) -> Any:
        """The log-normalizer, with gradients."""
        own = to_tensor(self.result.log_normalizer)
        return self.through([own], "grad_log_normalizer")[0]

    def through(self, outputs: Sequence[Any], *names: str) -> Any:
        """The outputs as tensors that pass gradients to the inputs.

        `names` are the arguments of the result's `vjp` for the gradient of each output.
        """

        def pull(grads: Sequence[Any]) -> list[Any]:
            given = {
                name: to_array(name, grad)
                for name, grad in zip(names, grads, strict=True)
                if grad is not None
            }
            return self.gradients(self.result.vjp(**given)) if given else [None] * len(self.tensors)

        return record(pull, outputs, list(self.tensors.values()))

    def gradients(self, found: Gradients) -> list[Any]:
        """The gradients of the tensors, in their order and dtypes."""
        grads = ((gradient_of(name, found), tensor) for name, tensor in self.tensors.items())
        return [
            torch.zeros_like(tensor) if grad is None else to_tensor(grad).to(tensor.dtype)
            for grad, tensor in grads
        ]


class _Tensors(Readouts):
    """Fields of a result as tensors, detached except those through which gradients flow."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(recorded.result)
        self._recorded = recorded

    def _array(self, name: str, array: Any) -> Any:
        return to_array(name, array)

    def _converted(self, found: Any) -> Any:
        return to_tensor(found)

    def _field(self, found: Any) -> Any:
        return to_tensor(found, self._recorded.dtype)

    @cached_property
    def log_normalizer(self) -> Any:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., L), of a layer (..., N, L)."""
        return self._recorded.log_normalizer()

    @cached_property
    def weights(self) -> Any:
        """The weights: (..., L, S), or (..., N, L, S) of a layer.

        With a sparse mask they are a detached sparse COO tensor.
        """
        return self._recorded.weights()


class TensorResult(_Tensors):
    """An `attention_core.AttentionResult` with tensors for arrays.

    Gradients flow through `context`, `log_normalizer` and `weights` to the inputs, if the scorer
    and the normalizer have a vjp. Other fields are detached. Weights are computed on first access,
    as a separate node of the graph.

    Examples
    --------
    >>> import attention_core as ac
    >>> x = torch.eye(3, requires_grad=True)
    >>> result = ac.attend(x, x, x, scorer="dot", is_causal=True)
    >>> (result.context.square().sum() + result.weights[1, 0]).backward()
    >>> x.grad.shape, result.entropy.dtype
    (torch.Size([3, 3]), torch.float32)
    """

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(recorded)
        result = recorded.result
        self.context: Any = recorded.through(
            [to_tensor(result.context, recorded.dtype)], "grad_context"
        )[0]
        """The weighted sum of values: (..., L, Dv)."""


class TensorHeadsResult(_Tensors):
    """An `attention_core.MultiHeadResult` with tensors for arrays.

    Gradients flow through `output`, `weights` and `log_normalizer`. Other fields are detached.

    Examples
    --------
    >>> import attention_core as ac
    >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    >>> x = torch.eye(4, requires_grad=True)
    >>> result = layer(x, x, x)
    >>> result.output.sum().backward()
    >>> x.grad.shape, result.weights.shape
    (torch.Size([4, 4]), torch.Size([2, 4, 4]))
    """

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(recorded)
        output = to_tensor(recorded.result.output, recorded.dtype)
        self.output: Any = recorded.through([output], "grad_output")[0]
        """``sum_h context_h W^O_h + b^O``: (..., L, Eo)."""

    @property
    def groups(self) -> Any:
        """The heads of each scorer and normalizer."""
        return self._recorded.result.groups

    @cached_property
    def attention(self) -> tuple[TensorResult, ...]:
        """The result of each group, detached: weights (..., heads, L, S) and more."""
        _, _, dtype = self._recorded
        return tuple(TensorResult(Recorded(one, {}, dtype)) for one in self.numpy().attention)
