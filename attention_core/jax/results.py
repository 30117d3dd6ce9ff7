"""Results whose fields are JAX arrays."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from attention_core.jax.arrays import to_array, to_jax
from attention_core.jax.tracing import TracedCall
from attention_core.libraries.readouts import Readouts

__all__ = ["JaxResult", "TracedResult"]


class JaxResult(Readouts):
    """An `attention_core.AttentionResult`, or the result of a layer, with JAX arrays.

    Fields are computed on first access. Results of layers have `output`, others `context`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import attention_core as ac
    >>> x = jnp.eye(3)
    >>> result = ac.attend(x, x, x, scorer="dot", is_causal=True)
    >>> result.weights[0]
    Array([1., 0., 0.], dtype=float32)
    """

    def _array(self, name: str, array: Any) -> Any:
        return to_array(name, array)

    def _converted(self, found: Any) -> Any:
        return to_jax(found)

    @cached_property
    def context(self) -> Any:
        """The weighted sum of values: (..., L, Dv)."""
        return to_jax(self._result.context)

    @cached_property
    def output(self) -> Any:
        """``sum_h context_h W^O_h + b^O`` of a layer: (..., L, Eo)."""
        return to_jax(self._result.output)

    @cached_property
    def log_normalizer(self) -> Any:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., L)."""
        return to_jax(self._result.log_normalizer)

    @cached_property
    def weights(self) -> Any:
        """The weights: (..., L, S); dense, also with a sparse mask."""
        return to_jax(self._result.weights)

    @property
    def groups(self) -> Any:
        """The heads of each scorer and normalizer of a layer."""
        return self._result.groups

    @cached_property
    def attention(self) -> tuple[JaxResult, ...]:
        """The result of each group of heads of a layer."""
        return tuple(map(JaxResult, self._result.attention))


class TracedResult:
    """The result of a call inside ``jit``, ``grad`` or ``vmap``.

    Gradients flow through all fields. Each is a separate callback.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import attention_core as ac
    >>> def loss(query, key):
    ...     return (ac.attend(query, key, key, scorer="dot").context ** 2).sum()
    >>> jax.jit(jax.grad(loss))(jnp.ones((1, 2)), jnp.eye(2)).shape
    (1, 2)
    """

    def __init__(self, call: TracedCall) -> None:
        self._call = call

    def __repr__(self) -> str:
        return f"TracedResult({self._call.core!r})"

    @cached_property
    def context(self) -> Any:
        """The weighted sum of values: (..., L, Dv)."""
        return self._call.outputs("context")[0]

    @cached_property
    def output(self) -> Any:
        """``sum_h context_h W^O_h + b^O`` of a layer: (..., L, Eo)."""
        return self._call.outputs("output")[0]

    @cached_property
    def log_normalizer(self) -> Any:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., L)."""
        return self._call.outputs("log_normalizer")[0]

    @cached_property
    def weights(self) -> Any:
        """The weights: (..., L, S)."""
        return self._call.outputs("weights")[0]
