"""Attention and multi-head attention as modules, with their parameters registered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, Unpack

import numpy as np
import torch
from torch import nn

from attention_core.arguments import checked_arguments, unexpected_argument
from attention_core.arrays.adapters import adapter_of
from attention_core.attention import Attention as NumpyAttention
from attention_core.components.bias import Bias
from attention_core.errors import DTypeError, OptionTypeError, shown
from attention_core.libraries.cores import Core, parameters_of, with_parameters
from attention_core.multihead.heads import AttentionOptions
from attention_core.multihead.layer import MultiHeadAttention as NumpyLayer
from attention_core.torch.adapter import attend
from attention_core.torch.memory import TensorMemory
from attention_core.torch.results import TensorHeadsResult, TensorResult
from attention_core.torch.templates import template_of
from attention_core.torch.tensors import to_array
from attention_core.torch.traced import TracedHeadsResult, TracedResult, trace
from attention_core.typing import NormalizerLike, ScorerLike

if TYPE_CHECKING:
    from pathlib import Path

    from attention_core.registry.registry import Registry

__all__ = ["Attention", "MultiHeadAttention"]


class _Module(nn.Module):
    """A module that wraps an attention or a layer on NumPy arrays."""

    _kind: ClassVar[type[Core]]

    def __init__(self, core: Core, dtype: torch.dtype | None) -> None:
        super().__init__()
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise OptionTypeError(
                f"dtype must be a floating-point dtype of torch, such as torch.float32, "
                f"got {shown(dtype)}"
            )
        self._template = template_of(core)
        for name, array in parameters_of(core).items():
            tensor = torch.from_numpy(np.array(array))
            if tensor.is_floating_point():
                tensor = tensor.to(dtype or torch.get_default_dtype())
            _register(self, name, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))

    @classmethod
    @checked_arguments
    def from_numpy(cls, core: Any, *, dtype: torch.dtype | None = None) -> Self:
        """Make the module of an attention or a layer, such as one from `attention_core.load`."""
        if not isinstance(core, cls._kind):
            raise OptionTypeError(
                f"{cls.__name__}.from_numpy takes an attention_core.{cls._kind.__name__}, "
                f"got {shown(core)}"
            )
        made = cls.__new__(cls)
        _Module.__init__(made, core, dtype)
        return made

    @classmethod
    @checked_arguments
    def from_config(
        cls,
        source: str | Path | Mapping[str, Any],
        registry: Registry | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Make the module that a TOML or JSON file, or an equivalent mapping, describes.

        Errors are those of the `from_config` of the class for NumPy.
        """
        return cls.from_numpy(cls._kind.from_config(source, registry), dtype=dtype)

    def numpy(self) -> Any:
        """The attention or layer on NumPy arrays, with the present parameters."""
        tensors = self._tensors()
        arrays = {name: to_array(name, tensor).copy() for name, tensor in tensors.items()}
        return with_parameters(self._template.core, arrays)

    @checked_arguments
    def memory(self, key: Any, value: Any) -> TensorMemory:
        """Keys and values, projected once with the present parameters, for many calls."""
        for name, given in (("key", key), ("value", value)):
            _check_tensor(name, given)
        return TensorMemory(self.numpy(), key, value)

    def extra_repr(self) -> str:
        """The attention or the layer."""
        return repr(self._template.core)

    def _tensors(self) -> dict[str, Any]:
        """The parameters, in the order of the template."""
        return {name: reduce(getattr, name.split("."), self) for name in self._template.parameters}

    def _attend(
        self, inputs: tuple[Any, Any, Any], terms: tuple[Any, ...], query_offset: Any
    ) -> Any:
        if torch.compiler.is_compiling():
            parameters = list(self._tensors().values())
            return trace(self._template.name, inputs, terms, query_offset, parameters)
        query, *others = inputs
        _check_tensor("query", query)
        adapter_of(query, *others)  # all must be tensors
        return attend(self.numpy(), *inputs, terms, query_offset, self._tensors())


class Attention(_Module):
    """An `attention_core.Attention` as a module, whose parameters are those of its components.

    They are named by component: ``scorer.weight``, ``normalizer.sink``, ``bias.table``. `numpy`
    returns the attention with their present values, for `attention_core.save` and for use without
    PyTorch; `from_numpy` is its inverse.

    Parameters
    ----------
    scorer, normalizer, bias
        As for `attention_core.Attention`: a name, a mapping or an object, which gives the initial
        values.
    dtype
        The dtype of floating-point parameters, by default torch's.
    **options
        The options of `attention_core.Attention`.

    Examples
    --------
    >>> scorer = {"name": "additive", "query_dim": 4, "key_dim": 4, "hidden_dim": 8, "rng": 0}
    >>> attention = Attention(scorer, normalizer={"name": "softmax", "sink": 0.0}, is_causal=True)
    >>> [name for name, _ in attention.named_parameters()]  # doctest: +NORMALIZE_WHITESPACE
    ['scorer.query_weight', 'scorer.key_weight', 'scorer.score_weight', 'normalizer.sink']
    >>> x = torch.eye(4)
    >>> loss = attention(x, x, x).context.square().sum()
    >>> loss.backward()
    >>> attention.scorer.score_weight.grad.shape
    torch.Size([8])
    """

    _kind = NumpyAttention

    @checked_arguments
    def __init__(
        self,
        scorer: ScorerLike,
        *,
        normalizer: NormalizerLike = "softmax",
        bias: str | Mapping[str, Any] | Bias | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[AttentionOptions],
    ) -> None:
        core = NumpyAttention(scorer, normalizer=normalizer, bias=bias, **options)
        super().__init__(core, dtype)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any = None,
        *,
        mask: Any = None,
        bias: Any = None,
        key_lengths: Any = None,
        query_lengths: Any = None,
        query_offset: Any = None,
        weight_factors: Any = None,
        **unknown: Never,
    ) -> TensorResult | TracedResult:
        """Attend; arguments are those of `attention_core.attend`.

        In compiled code the result has the context, the log-normalizer and the weights.
        """
        if unknown:
            raise unexpected_argument(self.forward, unknown)
        inputs, terms = (
            (query, key, value),
            (mask, bias, key_lengths, query_lengths, weight_factors),
        )
        found: TensorResult | TracedResult = self._attend(inputs, terms, query_offset)
        return found


class MultiHeadAttention(_Module):
    """An `attention_core.MultiHeadAttention` as a module.

    Parameters have the names that the layer gives them: ``query_weight``, ``heads.0.score_weight``,
    ``heads.0.normalizer.sink``. As everywhere in this library, True in a mask means "may attend".

    Parameters
    ----------
    query_dim, heads, **options
        Those of `attention_core.MultiHeadAttention.initialize`: scorer, normalizer, biases,
        key_heads, is_causal and the like.
    rng
        Seed or generator of the initial weights; by default drawn from torch's generator.
    dtype
        The dtype of floating-point parameters, by default torch's.

    Examples
    --------
    >>> layer = MultiHeadAttention(8, heads=2, scorer="scaled_dot", biases=True, rng=0)
    >>> x = torch.randn(3, 5, 8)
    >>> layer(x, x, x, key_lengths=torch.tensor([5, 2, 4])).output.shape
    torch.Size([3, 5, 8])
    >>> layer.numpy()
    MultiHeadAttention(heads=2, key_heads=2, scorer 'scaled_dot' (attention-core 0.1.0) for (0, 1))
    """

    _kind = NumpyLayer

    @checked_arguments
    def __init__(
        self,
        query_dim: int,
        *,
        heads: int,
        rng: int | np.random.Generator | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        if rng is None:
            rng = int(torch.randint(2**31, ()))
        core = NumpyLayer.initialize(query_dim, heads=heads, rng=rng, **options)
        super().__init__(core, dtype)

    @classmethod
    @checked_arguments
    def from_torch(cls, module: Any, *, dtype: torch.dtype | None = None, **options: Any) -> Self:
        """Make the module equivalent to a ``torch.nn.MultiheadAttention``, or to its state.

        Options and errors are those of `attention_core.MultiHeadAttention.from_torch`.
        """
        return cls.from_numpy(NumpyLayer.from_torch(module, **options), dtype=dtype)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any = None,
        *,
        mask: Any = None,
        bias: Any = None,
        key_lengths: Any = None,
        query_lengths: Any = None,
        query_offset: Any = None,
        weight_factors: Any = None,
        **unknown: Never,
    ) -> TensorHeadsResult | TracedHeadsResult:
        """Attend with every head; arguments are those of `attention_core.MultiHeadAttention`.

        In compiled code the result has the output, the log-normalizer and the weights.
        """
        if unknown:
            raise unexpected_argument(self.forward, unknown)
        terms = mask, bias, key_lengths, query_lengths, weight_factors
        found: TensorHeadsResult | TracedHeadsResult = self._attend(
            (query, key, value), terms, query_offset
        )
        return found


def _check_tensor(name: str, given: Any) -> None:
    if not isinstance(given, torch.Tensor):
        raise DTypeError(
            f"{name} must be a torch tensor, got a {type(given).__name__}; convert it with "
            f"torch.as_tensor({name}), or call the attention that numpy() returns"
        )


def _register(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Register a parameter; dots in its name make nested modules."""
    first, _, rest = name.partition(".")
    if not rest:
        module.register_parameter(first, parameter)
        return
    if first not in module._modules:
        module.add_module(first, nn.Module())
    _register(module.get_submodule(first), rest, parameter)
