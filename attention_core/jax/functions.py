"""Attention as pure functions of parameters and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp

from attention_core.arguments import checked_arguments
from attention_core.attention import Attention
from attention_core.components.bias import Bias
from attention_core.errors import OptionTypeError, shown
from attention_core.jax.arrays import to_array
from attention_core.jax.tracing import TracedCall
from attention_core.libraries.cores import (
    Core,
    check_parameters,
    has_log_normalizer,
    output_name,
    parameters_of,
    with_parameters,
)
from attention_core.multihead.heads import AttentionOptions
from attention_core.multihead.layer import MultiHeadAttention
from attention_core.typing import NormalizerLike, ScorerLike

__all__ = ["Attended", "AttentionFunction", "attention"]


class Attended(NamedTuple):
    """The result of an `AttentionFunction`; a pytree."""

    context: Any
    """The context (..., L, Dv), or the output (..., L, Eo) of a layer."""
    log_normalizer: Any
    """(..., L), or (..., N, L) of a layer; None if the normalizer has none."""


class AttentionFunction:
    """A pure function of (parameters, query, key, value, ...), which `attention` makes.

    It can be traced by ``jax.jit``, ``jax.grad`` (once) and ``jax.vmap``.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"AttentionFunction({self._core!r})"

    @property
    def parameters(self) -> dict[str, Any]:
        """Initial parameters by name, such as ``scorer.weight``: a pytree."""
        return {name: jnp.asarray(array) for name, array in parameters_of(self._core).items()}

    @checked_arguments
    def numpy(self, parameters: Mapping[str, Any]) -> Any:
        """The `Attention` or layer on NumPy arrays with these parameters, such as to save it."""
        check_parameters(self._core, parameters)
        return with_parameters(
            self._core, {name: to_array(name, own) for name, own in parameters.items()}
        )

    @checked_arguments
    def __call__(
        self,
        parameters: Mapping[str, Any],
        query: Any,
        key: Any,
        value: Any,
        *,
        mask: Any = None,
        bias: Any = None,
        key_lengths: Any = None,
        query_lengths: Any = None,
        query_offset: Any = None,
        weight_factors: Any = None,
    ) -> Attended:
        """Attend; arguments are those of `attention_core.attend`.

        Raises
        ------
        ScorerConfigError
            For parameters that are not those of the attention.
        """
        check_parameters(self._core, parameters)
        terms = mask, bias, key_lengths, query_lengths, weight_factors
        call = TracedCall(self._core, parameters, (query, key, value), terms, query_offset)
        output = output_name(self._core)
        if not has_log_normalizer(self._core):
            return Attended(call.outputs(output)[0], None)
        context, log_normalizer = call.outputs(output, "log_normalizer")
        return Attended(context, log_normalizer)

    @checked_arguments
    def weights(
        self,
        parameters: Mapping[str, Any],
        query: Any,
        key: Any,
        value: Any,
        *,
        mask: Any = None,
        bias: Any = None,
        key_lengths: Any = None,
        query_lengths: Any = None,
        query_offset: Any = None,
        weight_factors: Any = None,
    ) -> Any:
        """The weights (..., L, S) of the same call, with gradients."""
        check_parameters(self._core, parameters)
        terms = mask, bias, key_lengths, query_lengths, weight_factors
        call = TracedCall(self._core, parameters, (query, key, value), terms, query_offset)
        return call.outputs("weights")[0]


@checked_arguments
def attention(
    scorer: ScorerLike | Attention | MultiHeadAttention,
    *,
    normalizer: NormalizerLike = "softmax",
    bias: str | Mapping[str, Any] | Bias | None = None,
    **options: Unpack[AttentionOptions],
) -> AttentionFunction:
    """Make a pure function of (parameters, query, key, value, ...).

    Parameters
    ----------
    scorer, normalizer, bias, **options
        As for `attention_core.Attention`. An `Attention` or a `MultiHeadAttention` may be given
        alone, in place of the scorer.

    Raises
    ------
    OptionTypeError
        For options beside an `Attention` or a `MultiHeadAttention`, and unknown arguments.

    Examples
    --------
    >>> import jax
    >>> scorer = {"name": "additive", "query_dim": 2, "key_dim": 2, "hidden_dim": 4, "rng": 0}
    >>> attend = attention(scorer, is_causal=True)
    >>> x = jnp.eye(2)
    >>> def loss(parameters):
    ...     return (attend(parameters, x, x, x).context ** 2).sum()
    >>> gradients = jax.jit(jax.grad(loss))(attend.parameters)
    >>> {name: gradient.shape for name, gradient in gradients.items()}
    {'scorer.key_weight': (2, 4), 'scorer.query_weight': (2, 4), 'scorer.score_weight': (4,)}
    """
    if isinstance(scorer, (Attention, MultiHeadAttention)):
        if normalizer != "softmax" or bias is not None or options:
            raise OptionTypeError(
                f"attention takes options together with a scorer, got {shown(scorer)}, which has "
                f"its own; make that with these options"
            )
        return AttentionFunction(scorer)
    return AttentionFunction(Attention(scorer, normalizer=normalizer, bias=bias, **options))
