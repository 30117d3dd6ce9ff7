"""The result of multi-head attention: its output, weights of every head, and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import is_sparse
from attention_core.arrays.quiet import quiet_context
from attention_core.engine.gradients import Gradients
from attention_core.multihead.gradients import HeadInputs, checked_grads, layer_vjp
from attention_core.multihead.heads import HeadGroup
from attention_core.multihead.parameters import LayerParameters
from attention_core.multihead.projections import join_heads, linear, matrix
from attention_core.pictures import Pictured
from attention_core.result import AttentionResult, TopK
from attention_core.typing import Array, Weights

__all__ = ["MultiHeadResult"]

T = TypeVar("T", bound=Any)


class MultiHeadResult(Pictured):
    """The output of one call of `MultiHeadAttention`, and readouts that are computed on demand.

    `weights`, `scores`, `rows`, `top_k`, `entropy`, `key_mass` and `log_normalizer` are those of
    `AttentionResult`, with an axis for the N heads. `attention` has the result of each group of
    heads.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> scorers = ["dot", "scaled_dot", "dot"]
    >>> layer = ac.MultiHeadAttention.initialize(6, heads=3, scorer=scorers, rng=0)
    >>> x = np.random.default_rng(0).normal(size=(4, 6))
    >>> result = layer(x, x, x)
    >>> result
    MultiHeadResult(output (4, 6), heads=3, keys=4)
    >>> result.weights.shape, result.entropy.shape, result.top_k(2).indices.shape
    ((3, 4, 4), (3, 4), (3, 4, 2))
    >>> [(group.heads, attention.weights.shape)
    ...  for group, attention in zip(result.groups, result.attention)]
    [((0, 2), (2, 4, 4)), ((1,), (1, 4, 4))]
    """

    def __init__(
        self, layer: LayerParameters, given: HeadInputs, attention: Sequence[AttentionResult]
    ) -> None:
        self._layer = layer
        self._given = given
        self.attention: tuple[AttentionResult, ...] = tuple(attention)
        """The result of each group: weights (..., heads, L, S) and more."""
        context = self._merged([result.context for result in self.attention], -3)
        self._context = join_heads(context)  # (..., L, N Dv)
        weight, bias = matrix(layer.arrays, "output")
        output = linear(self._context, weight, bias, self._workers)
        self.output: Array = output.astype(given.result_dtype, copy=False)
        """``sum_h context_h W^O_h + b^O``: (..., L, Eo)."""

    def __repr__(self) -> str:
        keys = self._given.arrays[1].shape[-2] + self._layer.extra_keys
        return (
            f"MultiHeadResult(output {self.output.shape}, heads={self._layer.heads}, keys={keys})"
        )

    @property
    def groups(self) -> tuple[HeadGroup, ...]:
        """The heads of each scorer and normalizer."""
        return self._layer.groups

    @cached_property
    def weights(self) -> Weights:
        """The weights of every head: (..., N, L, S); sparse for a sparse mask.

        Keys of the layer, such as those of ``add_bias_kv`` and ``add_zero_attn`` of torch, follow
        those of the call.
        """
        return self._readout([result.weights for result in self.attention], -3)

    @cached_property
    def scores(self) -> Weights:
        """The input of the normalizer, after softcap and bias, -inf if masked: (..., N, L, S)."""
        return self._readout([result.scores for result in self.attention], -3)

    @cached_property
    def log_normalizer(self) -> Array:
        """``log sum_j exp(score_ij)`` over the allowed keys: (..., N, L).

        Raises
        ------
        OptionError
            If a head has a normalizer other than softmax.
        """
        merged: Array = self._merged([result.log_normalizer for result in self.attention], -2)
        return merged

    @cached_property
    def entropy(self) -> Array:
        """The spread of each row of weights, ``-sum_j w_ij log w_ij`` in nats: (..., N, L)."""
        return self._readout([result.entropy for result in self.attention], -2)

    @cached_property
    def key_mass(self) -> Array:
        """The weight each key receives from all queries, ``sum_i w_ij``: (..., N, S)."""
        return self._readout([result.key_mass for result in self.attention], -2)

    @checked_arguments
    def rows(self, rows: slice | int) -> Weights:
        """The weights of some queries only: (..., N, l, S), or (..., N, S) for one query.

        Raises
        ------
        OptionError, OptionTypeError
            For a query that does not exist.
        """
        parts = [result.rows(rows) for result in self.attention]
        return self._readout(parts, -3 if isinstance(rows, slice) else -2)

    @checked_arguments
    def top_k(self, n: int) -> TopK:
        """The n keys each query attends to most in each head, with weights: (..., N, L, n).

        Raises
        ------
        OptionError, OptionTypeError
            For n below 1.
        """
        parts = [result.top_k(n) for result in self.attention]
        return TopK(
            self._merged([part.indices for part in parts], -3),
            self._readout([part.weights for part in parts], -3),
        )

    @checked_arguments
    def vjp(
        self,
        grad_output: ArrayLike | None = None,
        *,
        grad_weights: ArrayLike | None = None,
        grad_log_normalizer: ArrayLike | None = None,
    ) -> Gradients:
        """Gradients of a loss with respect to the arguments, given those of the results.

        Parameters
        ----------
        grad_output : (..., L, Eo)
            The gradient of the loss with respect to `output`, in its shape.
        grad_weights : (..., N, L, S)
            The gradient with respect to `weights`, in its shape.
        grad_log_normalizer : (..., N, L)
            The gradient with respect to `log_normalizer`, in its shape.

        Returns
        -------
        Gradients
            Those of query, key and value, of the bias if it is an array, and of
            `MultiHeadAttention.parameters` by name, each in the shape of its array.

        Raises
        ------
        NotDifferentiableError
            If a scorer or a normalizer has no gradients.
        ShapeError, DTypeError
            For a gradient that does not fit the result.

        Notes
        -----
        Exact, and in bounded memory: see `AttentionResult.vjp`. The output of a query that may
        attend to nothing is the output bias, so its gradient reaches the output bias alone, even
        where it is NaN. A NaN gradient of a query that only some heads mask makes the gradient of
        `output_weight` NaN for all of them.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
        >>> x = np.eye(4)
        >>> result = layer(x, x, x)
        >>> gradients = result.vjp(2 * result.output)  # of the loss (output**2).sum()
        >>> step = layer.parameter_vector - 0.1 * gradients.parameter_vector
        >>> better = layer.with_parameter_vector(step)
        >>> bool((better(x, x, x).output ** 2).sum() < (result.output**2).sum())
        True
        """
        for group in self.groups:
            group.attention.scorer.check_differentiable()
            group.attention.normalizer.check_differentiable()
        keys = self._given.arrays[1].shape[-2] + self._layer.extra_keys
        *batch, length, _ = self._context.shape
        rows = (*batch, self._layer.heads, length)
        given = {
            "output": (grad_output, self.output.shape),
            "weights": (grad_weights, (*rows, keys)),
            "log_normalizer": (grad_log_normalizer, rows),
        }
        grads = checked_grads(given)
        call = self._layer, self._given, self._context, self.attention, grads
        return quiet_context().run(layer_vjp, *call)

    @property
    def _workers(self) -> int | None:
        return self.groups[0].attention.workers

    def _readout(self, parts: Sequence[T], axis: int) -> T:
        """Merge the arrays of the groups, in the dtype of the result."""
        merged, dtype = self._merged(parts, axis), self._given.result_dtype
        is_kept = is_sparse(merged) and dtype.itemsize < 4  # SciPy's have no half precision
        found: T = merged if is_kept else merged.astype(dtype, copy=False)
        return found

    def _merged(self, parts: Sequence[Any], axis: int) -> Any:
        """Merge the arrays of the groups in the order of the heads, along the axis of heads."""
        if len(parts) == 1:
            return parts[0]
        heads = np.concatenate([group.heads for group in self.groups])
        if not is_sparse(parts[0]):
            return np.concatenate(parts, axis=axis).take(np.argsort(heads), axis)
        shape = list(parts[0].shape)
        shape[axis] = len(heads)
        coordinates, data = [], []
        for group, part in zip(self.groups, parts, strict=True):
            own = list(part.coords)
            own[axis] = np.asarray(group.heads)[own[axis]]
            coordinates.append(own)
            data.append(part.data)
        together = tuple(map(np.concatenate, zip(*coordinates, strict=True)))
        return type(parts[0])((np.concatenate(data), together), tuple(shape))
