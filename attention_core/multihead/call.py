"""One call of multi-head attention: into the heads, one attention per scorer, and out; and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import (
    as_array,
    broadcast_batch,
    check_key_and_value,
    computing_dtype,
)
from attention_core.engine.gradients import Gradients
from attention_core.errors import OptionError, OptionTypeError, ShapeError
from attention_core.masking.arguments import is_sparse
from attention_core.masking.packing import Packing
from attention_core.multihead.heads import (
    add_heads,
    checked_input,
    join_heads,
    linear,
    linear_vjp,
    matrix,
    numbers_of_heads,
    pairs_of_heads,
    pick_heads,
    project_heads,
    split_heads,
)
from attention_core.multihead.memory import MultiHeadMemory, seen_by_groups
from attention_core.multihead.parameters import HeadGroup
from attention_core.result import AttentionResult
from attention_core.typing import Array

__all__ = ["MultiHeadResult", "attend_heads"]

Arrays = Mapping[str, Array]
Dtypes = tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]

INPUTS = ("query", "key", "value")


class _Call(NamedTuple):
    """What was given, in the dtype to compute in."""

    arrays: Arrays
    inputs: tuple[Array, Array, Array]
    """query (..., L, Eq), key (..., S, Ek) and value (..., S, Ev)"""
    dtypes: Dtypes
    """Of the inputs as they came."""
    result_dtype: np.dtype[Any]
    bias: Any
    workers: int | None

    @property
    def heads(self) -> tuple[int, int, int]:
        """N, M and M, the number of heads that query, key and value have."""
        count, shared = self.arrays["query_weight"].shape[1], self.arrays["key_weight"].shape[1]
        return count, shared, shared

    @property
    def sizes(self) -> list[int]:
        """Dq, Dk and Dv."""
        return [self.arrays[f"{name}_weight"].shape[-1] for name in INPUTS]


class MultiHeadResult:
    """The output of one call of `MultiHeadAttention`, and what can be asked of it.

    It keeps the call's arrays for that, so do not write to them in between.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> scorers = ["dot", "scaled_dot", "dot"]
    >>> layer = ac.MultiHeadAttention.initialize(6, heads=3, scorer=scorers, rng=0)
    >>> x = np.random.default_rng(0).normal(size=(4, 6))
    >>> result = layer(x, x, x)
    >>> result.output.shape, result.weights.shape
    ((4, 6), (3, 4, 4))
    >>> [(group.heads, attention.entropy.shape)
    ...  for group, attention in zip(result.groups, result.attention)]
    [((0, 2), (2, 4)), ((1,), (1, 4))]
    """

    def __init__(
        self, call: _Call, groups: Sequence[HeadGroup], attention: Sequence[AttentionResult]
    ) -> None:
        self._call = call
        self.groups: tuple[HeadGroup, ...] = tuple(groups)
        """The heads of each scorer."""
        self.attention: tuple[AttentionResult, ...] = tuple(attention)
        """What attention found, for each of the groups: weights (..., heads, L, S) and more."""
        context = _merged(self.groups, [result.context for result in self.attention])
        self._context = join_heads(context)  # (..., L, N Dv)
        weight, bias = matrix(call.arrays, "output")
        output = linear(self._context, weight, bias, call.workers)
        self.output: Array = output.astype(call.result_dtype, copy=False)
        """``sum_h context_h W^O_h + b^O``: (..., L, Eo)."""

    @cached_property
    def weights(self) -> Any:
        """The softmax of the scores of every head: (..., N, L, S); sparse for a sparse mask."""
        weights = _merged(self.groups, [result.weights for result in self.attention])
        if is_sparse(weights) and self._call.result_dtype.itemsize < 4:
            return weights  # SciPy's sparse arrays know no half precision
        return weights.astype(self._call.result_dtype, copy=False)

    def vjp(self, grad_output: ArrayLike) -> Gradients:
        """Gradients of a loss with respect to what went in, from its gradient at the output.

        Parameters
        ----------
        grad_output : (..., L, Eo)
            The gradient of the loss with respect to `output`, in its shape.

        Returns
        -------
        Gradients
            Those of query, key and value, of the bias if it is an array, and of
            `MultiHeadAttention.parameters` by name; shaped as what was given.

        Raises
        ------
        NotDifferentiableError
            When a scorer offers no gradients.
        ShapeError, DTypeError
            For a gradient that does not fit the output.

        Notes
        -----
        Exact, and in bounded memory: see `AttentionResult.vjp`. The output bias has a gradient
        also from rows that may attend to nothing, as they are the output bias; nothing else has,
        even where the gradient that comes in is NaN. A row that only some heads may use, with a
        gradient of NaN, makes that of `output_weight` NaN for all of them.

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
        call = self._call
        grad = as_array("grad_output", grad_output)
        if grad.shape != self.output.shape:
            raise ShapeError(
                f"grad_output must have the shape of the output, {self.output.shape}, "
                f"got {grad.shape}"
            )
        grad = grad.astype(self._context.dtype, copy=False)
        with np.errstate(all="ignore"):
            return self._gradients(call, grad)

    def _gradients(self, call: _Call, grad: Array) -> Gradients:
        weight, _ = matrix(call.arrays, "output")
        out = linear_vjp(self._context, weight, grad, call.workers)
        found = {"output_weight": out.weight, "output_bias": out.bias}
        grad_context = split_heads(out.array, call.heads[0])  # (..., N, L, Dv)
        inner, grad_bias = self._through_attention(call, grad_context, found)
        outer: list[Array] = []
        for name, array, grad_heads, dtype in zip(
            INPUTS, call.inputs, inner, call.dtypes, strict=True
        ):
            weight, _ = matrix(call.arrays, name)
            back = linear_vjp(array, weight, join_heads(grad_heads), call.workers)
            found |= {f"{name}_weight": back.weight, f"{name}_bias": back.bias}
            outer.append(back.array.astype(dtype, copy=False))
        parameters = {
            name: found.pop(name).reshape(array.shape).astype(array.dtype, copy=False)
            for name, array in call.arrays.items()
        }
        of_scorers = {name: array for name, array in found.items() if name.startswith("heads.")}
        query, key, value = outer
        return Gradients(query, key, value, grad_bias, parameters | of_scorers)

    def _through_attention(
        self, call: _Call, grad_context: Array, found: dict[str, Array]
    ) -> tuple[list[Array], Array | None]:
        """Gradients of heads (..., N or M, n, D) and of the bias; `found` gets those of scorers."""
        totals = [
            np.zeros((*array.shape[:-2], heads, array.shape[-2], size), grad_context.dtype)
            for array, heads, size in zip(call.inputs, call.heads, call.sizes, strict=True)
        ]
        total_bias: Array | None = None
        for group, result in zip(self.groups, self.attention, strict=True):
            own = result.vjp(pick_heads(grad_context, group.heads))
            add_heads(totals[0], group.heads, own.query)
            add_heads(totals[1], group.seen_heads, own.key)
            add_heads(totals[2], group.seen_heads, own.value)
            found |= {f"{group.prefix}{name}": array for name, array in own.parameters.items()}
            if own.bias is not None:
                if total_bias is None:
                    total_bias = np.zeros(np.shape(call.bias), own.bias.dtype)
                if own.bias.shape == total_bias.shape:
                    total_bias += own.bias
                else:
                    add_heads(total_bias, group.heads, own.bias)
        return totals, total_bias


def attend_heads(
    arrays: Arrays,
    groups: Sequence[HeadGroup],
    inputs: tuple[ArrayLike, ArrayLike | MultiHeadMemory, ArrayLike | None],
    *,
    pairs: Mapping[str, Any],
    numbers: Mapping[str, ArrayLike | None],
) -> MultiHeadResult:
    """Check what comes in, project it, and attend with the heads of each scorer.

    Parameters
    ----------
    inputs
        query, key and value, or query, memory and None.
    pairs
        The mask and the bias by name: what broadcasts to (..., N, L, S).
    numbers
        Lengths and the offset: one per batch item, or per batch item and head; with a `Packing`,
        an offset per sequence.
    """
    query, key, value, dtypes = _checked(arrays, groups, *inputs)
    batch = broadcast_batch(query.shape, key.shape, value.shape)
    dtype, result_dtype = computing_dtype(*dtypes)
    query, key, value = (array.astype(dtype, copy=False) for array in (query, key, value))
    workers = groups[0].attention.workers
    call = _Call(arrays, (query, key, value), dtypes, result_dtype, pairs["bias"], workers)
    count = call.heads[0]
    seen: Sequence[tuple[Any, ...]]
    with np.errstate(all="ignore"):  # NaN and Inf in the inputs are results, not accidents
        asking = project_heads(arrays, "query", query, workers)  # (..., N, L, Dq)
        if isinstance(inputs[1], MultiHeadMemory):
            seen = [(memory,) for memory in inputs[1].memories]
        else:
            seen = seen_by_groups(arrays, groups, key, value)
        results = []
        for group, what_it_sees in zip(groups, seen, strict=True):
            own: dict[str, Any] = {
                name: pairs_of_heads(name, what, group.heads, count) for name, what in pairs.items()
            }
            if isinstance(pairs["mask"], Packing):
                own |= numbers  # those of sequences, which are the same for every head
            else:
                for name, what in numbers.items():
                    own[name] = numbers_of_heads(name, what, group.heads, count, len(batch))
            results.append(group.attention(pick_heads(asking, group.heads), *what_it_sees, **own))
        return MultiHeadResult(call, groups, results)


def _checked(
    arrays: Arrays,
    groups: Sequence[HeadGroup],
    query: ArrayLike,
    key: ArrayLike | MultiHeadMemory,
    value: ArrayLike | None,
) -> tuple[Array, Array, Array, Dtypes]:
    """Query, key and value as arrays that fit together, and the dtypes they came in."""
    asking = checked_input(arrays, "query", query)
    if isinstance(key, MultiHeadMemory):
        if value is not None:
            raise OptionTypeError("value must be left out: the memory holds its own")
        if key.groups is not groups:
            raise OptionError(
                "this memory was prepared by another layer; "
                "make one with this layer's memory(key, value)"
            )
        return asking, key.key, key.value, (asking.dtype, key.dtype, key.dtype)
    if value is None:
        raise OptionTypeError("value is missing: give it after key, or a memory as key")
    keys, values = checked_input(arrays, "key", key), checked_input(arrays, "value", value)
    check_key_and_value(keys, values)
    return asking, keys, values, (asking.dtype, keys.dtype, values.dtype)


def _merged(groups: Sequence[HeadGroup], parts: Sequence[Any]) -> Any:
    """What the groups found, each (..., heads, L, n), in the order of the heads: (..., N, L, n)."""
    if len(parts) == 1:
        return parts[0]
    heads = np.concatenate([group.heads for group in groups])
    if not is_sparse(parts[0]):
        return np.concatenate(parts, axis=-3)[..., np.argsort(heads), :, :]
    shape = (*parts[0].shape[:-3], len(heads), *parts[0].shape[-2:])
    coordinates, data = [], []
    for group, part in zip(groups, parts, strict=True):
        *outer, own, rows, columns = part.coords
        coordinates.append([*outer, np.asarray(group.heads)[own], rows, columns])
        data.append(part.data)
    return type(parts[0])(
        (np.concatenate(data), tuple(map(np.concatenate, zip(*coordinates, strict=True)))), shape
    )
