"""The result of multi-head attention: its output, weights of every head, and gradients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array, is_sparse
from attention_core.arrays.quiet import quiet_context
from attention_core.engine.gradients import Gradients
from attention_core.errors import ShapeError
from attention_core.multihead.heads import HeadGroup, add_bias, add_heads, pick_heads
from attention_core.multihead.layout import INPUTS
from attention_core.multihead.parameters import LayerParameters
from attention_core.multihead.projections import (
    join_heads,
    linear,
    linear_vjp,
    matrix,
    split_heads,
)
from attention_core.result import AttentionResult, TopK
from attention_core.typing import Array, Weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attention_core.plot.options import PageOptions, PlotOptions, TextOptions

__all__ = ["HeadInputs", "MultiHeadResult"]

Shape = tuple[int, ...]


class HeadInputs(NamedTuple):
    """The arguments of a call that have gradients."""

    arrays: tuple[Array, Array, Array]
    """query (..., L, Eq), key (..., S, Ek) and value (..., S, Ev), in the computing dtype."""
    dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]
    """The original dtypes of query, key and value."""
    result_dtype: np.dtype[Any]
    bias_shape: Shape | None
    """None for a bias that is not an array."""


class MultiHeadResult:
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
        weights: Weights = self._readout([result.weights for result in self.attention], -3)
        return weights

    @cached_property
    def scores(self) -> Weights:
        """The input of the normalizer, after softcap and bias, -inf if masked: (..., N, L, S)."""
        scores: Weights = self._readout([result.scores for result in self.attention], -3)
        return scores

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
        entropy: Array = self._readout([result.entropy for result in self.attention], -2)
        return entropy

    @cached_property
    def key_mass(self) -> Array:
        """The weight each key receives from all queries, ``sum_i w_ij``: (..., N, S)."""
        mass: Array = self._readout([result.key_mass for result in self.attention], -2)
        return mass

    def rows(self, rows: slice | int) -> Weights:
        """The weights of some queries only: (..., N, l, S), or (..., N, S) for one query.

        Raises
        ------
        OptionError, OptionTypeError
            For a query that is not there.
        """
        parts = [result.rows(rows) for result in self.attention]
        weights: Weights = self._readout(parts, -3 if isinstance(rows, slice) else -2)
        return weights

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

    def vjp(self, grad_output: ArrayLike) -> Gradients:
        """Gradients of a loss with respect to the arguments, from its gradient at the output.

        Parameters
        ----------
        grad_output : (..., L, Eo)
            The gradient of the loss with respect to `output`, in its shape.

        Returns
        -------
        Gradients
            Those of query, key and value, of the bias if it is an array, and of
            `MultiHeadAttention.parameters` by name, each in the shape of its array.

        Raises
        ------
        NotDifferentiableError
            When a scorer or a normalizer offers no gradients.
        ShapeError, DTypeError
            For a gradient that does not fit the output.

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
        grad = as_array("grad_output", grad_output)
        if grad.shape != self.output.shape:
            raise ShapeError(
                f"grad_output must have the shape of the output, {self.output.shape}, "
                f"got {grad.shape}"
            )
        grad = grad.astype(self._context.dtype, copy=False)
        return quiet_context().run(self._gradients, grad)

    def plot(
        self, path: str | os.PathLike[str] | None = None, /, **options: Unpack[PlotOptions]
    ) -> Figure:
        """A heat map for each head, side by side: see `AttentionResult.plot`."""
        from attention_core.plot import heatmap, save  # only pictures need it

        figure = heatmap(self, **options)
        if path is not None:
            save(figure, path)
        return figure

    def to_text(self, **options: Unpack[TextOptions]) -> str:
        """A heat map for each head, in plain text: see `AttentionResult.to_text`."""
        from attention_core.plot import text  # only pictures need it

        return text(self, **options)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, /, **options: Unpack[PageOptions]
    ) -> str:
        """A page to explore the heads: see `AttentionResult.to_html`."""
        from attention_core.plot import page  # only pictures need it

        return page(self, path, **options)

    def _repr_html_(self) -> str:
        """The page, for notebooks."""
        from attention_core.plot.web.notebook import in_notebook  # only pictures need it

        return in_notebook(self)

    @property
    def _workers(self) -> int | None:
        return self.groups[0].attention.workers

    def _gradients(self, grad: Array) -> Gradients:
        arrays = self._layer.arrays
        out = linear_vjp(self._context, matrix(arrays, "output")[0], grad, self._workers)
        found = {"output_weight": out.weight, "output_bias": out.bias}
        grad_context = split_heads(out.array, self._layer.heads)  # (..., N, L, Dv)
        inner, grad_bias = self._through_attention(grad_context, found)
        outer: list[Array] = []
        for name, array, grad_heads, dtype in zip(
            INPUTS, self._given.arrays, inner, self._given.dtypes, strict=True
        ):
            weight, _ = matrix(arrays, name)
            back = linear_vjp(array, weight, join_heads(grad_heads), self._workers)
            found |= {f"{name}_weight": back.weight, f"{name}_bias": back.bias}
            outer.append(back.array.astype(dtype, copy=False))
        parameters = {
            name: found[name].reshape(array.shape).astype(array.dtype, copy=False)
            for name, array in self._layer.parameters.items()
        }
        query, key, value = outer
        return Gradients(query, key, value, grad_bias, parameters, {})

    def _through_attention(
        self, grad_context: Array, found: dict[str, Array]
    ) -> tuple[list[Array], Any]:
        """Gradients of heads (..., N or M, n, D) and of the bias; others are added to `found`."""
        layer, dtype = self._layer, grad_context.dtype
        totals = [
            np.zeros((*array.shape[:-2], weight.shape[1], array.shape[-2], weight.shape[2]), dtype)
            for array, weight in zip(
                self._given.arrays, (layer.arrays[f"{name}_weight"] for name in INPUTS), strict=True
            )
        ]
        found |= {
            name: np.zeros(array.shape, np.result_type(array, dtype))
            for name, array in layer.parameters.items()
            if name.startswith(("extra_", "heads."))
        }
        total_bias: Any = None
        count = totals[1].shape[-2]
        for group, result in zip(self.groups, self.attention, strict=True):
            own = result.vjp(pick_heads(grad_context, group.heads))
            add_heads(totals[0], group.heads, own.query)
            for total, name, grad in zip(
                totals[1:], ("extra_key", "extra_value"), (own.key, own.value), strict=True
            ):
                add_heads(total, group.seen_heads, grad[..., :count, :])
                if name in found:
                    extra = grad[..., count, :]  # (..., heads, D)
                    extra = extra.sum(axis=tuple(range(extra.ndim - 2)))
                    np.add.at(found[name], list(group.seen_heads), extra)
            for name, array in own.parameters.items():
                found[f"{group.scorer_prefix}{name}"] += array
            for name, array in own.normalizer.items():
                total = found[f"{group.normalizer_prefix}{name}"]
                total[(..., group.positions) if array.shape != total.shape else ...] += array
            if isinstance(own.bias, dict) or is_sparse(own.bias):
                total_bias = _sum_of_biases(total_bias, own.bias)
            elif own.bias is not None and self._given.bias_shape is not None:
                grad_bias = own.bias[..., :count] if layer.extra_keys else own.bias
                if total_bias is None:
                    shape = self._given.bias_shape
                    total_bias = np.zeros(shape, own.bias.dtype)
                add_bias(total_bias, group.heads, grad_bias)
        return totals, total_bias

    def _readout(self, parts: Sequence[Any], axis: int) -> Any:
        """Merge the arrays of the groups, in the dtype of the result."""
        merged, dtype = self._merged(parts, axis), self._given.result_dtype
        if is_sparse(merged) and dtype.itemsize < 4:
            return merged  # SciPy's sparse arrays know no half precision
        return merged.astype(dtype, copy=False)

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


def _sum_of_biases(total: Any, part: Any) -> Any:
    """The sum of gradients of a group's bias, by name or on edges, and of those of others."""
    if total is None:
        return part
    if isinstance(part, dict):
        return {name: total[name] + own for name, own in part.items()}
    data = total.data + part.data
    return type(part)((data, part.indices, part.indptr), shape=part.shape)
