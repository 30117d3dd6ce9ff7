"""Exact merging of attention over disjoint sets of keys, such as those of several machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import as_array
from attention_core.arrays.quiet import quiet_context
from attention_core.components.values import show_fields
from attention_core.errors import OptionError, OptionTypeError, ShapeError, shown
from attention_core.normalizing.softmax import Softmax
from attention_core.typing import Array

__all__ = ["Merged", "PartGrads", "merge"]


class PartGrads(NamedTuple):
    """Gradients of one part: the arguments of its `AttentionResult.vjp`."""

    grad_context: Array
    """(..., L, Dv)"""
    grad_log_normalizer: Array
    """(..., L)"""

    def __repr__(self) -> str:
        return show_fields(self)


class Merged(NamedTuple):
    """The result over the union of the keys of some parts."""

    context: Array
    """(..., L, Dv)"""
    log_normalizer: Array
    """(..., L)"""
    shares: Array
    """(n, ..., L): the sum of the weights of each part, ``exp(lse_j - lse)``."""
    contexts: tuple[Array, ...]
    """The contexts of the parts."""

    def __repr__(self) -> str:
        return show_fields(self)

    @checked_arguments
    def part_grads(
        self, grad_context: ArrayLike, grad_log_normalizer: ArrayLike | None = None
    ) -> list[PartGrads]:
        """Gradients with respect to the parts, from those with respect to the merged result.

        With a_j the share of part j, c_j its context, c the merged context and G the gradient of
        c: ``grad_context_j = a_j G`` and
        ``grad_log_normalizer_j = a_j (G . (c_j - c)) + a_j grad_log_normalizer``.

        Parameters
        ----------
        grad_context : (..., L, Dv)
        grad_log_normalizer : (..., L)

        Raises
        ------
        ShapeError, DTypeError
            For gradients that do not fit.

        Examples
        --------
        >>> import numpy as np
        >>> import attention_core as ac
        >>> x = np.random.default_rng(0).normal(size=(6, 2))
        >>> parts = [ac.attend(x, k, k, scorer="dot") for k in (x[:4], x[4:])]
        >>> grads = ac.merge(parts).part_grads(np.ones((6, 2)))
        >>> own = [part.vjp(g, grad_log_normalizer=l) for part, (g, l) in zip(parts, grads)]
        >>> whole = ac.attend(x, x, x, scorer="dot").vjp(np.ones((6, 2)))
        >>> bool(np.allclose(own[0].query + own[1].query, whole.query))
        True
        """
        grad = as_array("grad_context", grad_context)
        if grad.shape != self.context.shape:
            raise ShapeError(
                f"grad_context must have the shape of the context, {self.context.shape}, "
                f"got {grad.shape}"
            )
        of_log: Any = 0.0
        if grad_log_normalizer is not None:
            of_log = as_array("grad_log_normalizer", grad_log_normalizer)
            if of_log.shape != self.log_normalizer.shape:
                raise ShapeError(
                    f"grad_log_normalizer must have the shape of the log_normalizer, "
                    f"{self.log_normalizer.shape}, got {of_log.shape}"
                )
        found = []
        for share, context in zip(self.shares, self.contexts, strict=True):
            along = np.vecdot(grad, context - self.context)
            # a part without keys has a share of 0 and no gradient
            of_part = np.where(share > 0, share * (along + of_log), 0)
            found.append(PartGrads(np.where(share > 0, share, 0)[..., None] * grad, of_part))
        return found


@checked_arguments
def merge(parts: Sequence[Any]) -> Merged:
    """Merge results over disjoint keys into the exact result over all of them.

    ``lse = log sum_j exp(lse_j)`` and ``context = sum_j exp(lse_j - lse) context_j``: softmax over
    a union needs only the context and the log-normalizer of each part, in any order and grouping.

    Parameters
    ----------
    parts
        At least one; each an `AttentionResult`, or a pair (context (..., L, Dv),
        log_normalizer (..., L)) with the natural logarithm. Shapes are the same.

    Returns
    -------
    Merged
        With `context`, `log_normalizer` and `part_grads`. A row without keys in every part is 0,
        with a log-normalizer of -inf.

    Raises
    ------
    OptionError, OptionTypeError
        Without parts, for anything else, and for results of normalizers other than softmax without
        a sink, which cannot be merged.
    ShapeError, DTypeError
        For arrays that do not fit together.

    References
    ----------
    Milakov and Gimelshein 2018, arXiv:1805.02867. Dao et al. 2023, Flash-Decoding.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_core as ac
    >>> x = np.random.default_rng(0).normal(size=(6, 2))
    >>> parts = [ac.attend(x, keys, keys, scorer="dot") for keys in (x[:1], x[1:4], x[4:])]
    >>> bool(np.allclose(ac.merge(parts).context, ac.attend(x, x, x, scorer="dot").context))
    True
    """
    if not isinstance(parts, Iterable):
        raise OptionTypeError(
            f"parts must be a list of results, or of pairs (context, log_normalizer), got "
            f"{shown(parts)}"
        )
    pairs = [_pair(index, part) for index, part in enumerate(parts)]
    if not pairs:
        raise OptionError("merge needs at least one part")
    contexts, logs = tuple(pair[0] for pair in pairs), [pair[1] for pair in pairs]
    shape = contexts[0].shape
    for index, (context, log) in enumerate(pairs):
        if context.ndim < 1 or context.shape != shape or log.shape != shape[:-1]:
            raise ShapeError(
                f"part {index} must have context {shape} and log_normalizer {shape[:-1]}, "
                f"got {context.shape} and {log.shape}"
            )
    stacked = np.stack(logs)  # (n, ..., L)
    return quiet_context().run(_merged, contexts, stacked)


def _merged(contexts: tuple[Array, ...], stacked: Array) -> Merged:
    top = stacked.max(axis=0)
    shift = np.where(np.isneginf(top), 0, top)
    exponentials = np.exp(stacked - shift)
    total = exponentials.sum(axis=0)
    log_normalizer = shift + np.log(total)
    shares = exponentials / np.where(total == 0, 1, total)
    context = np.zeros(contexts[0].shape, np.result_type(*contexts, stacked))
    for share, own in zip(shares, contexts, strict=True):
        context += np.where(share[..., None] == 0, 0, share[..., None] * own)
    dtype = np.result_type(*contexts)
    return Merged(context.astype(dtype, copy=False), log_normalizer, shares, contexts)


def _pair(index: int, part: Any) -> tuple[Array, Array]:
    """The context and the log-normalizer of a part."""
    answer = getattr(part, "_answer", None)
    if answer is not None:
        normalizer = answer.problem.normalizer
        if not (type(normalizer) is Softmax and normalizer.sink is None):
            raise OptionError(
                f"part {index} was attended with {normalizer!r}; only a softmax without sink can "
                f"be merged from parts"
            )
        return part.context, part.log_normalizer
    try:
        context, log_normalizer = part
    except (TypeError, ValueError):
        raise OptionTypeError(
            f"part {index} must be an AttentionResult, or a pair (context, log_normalizer), "
            f"got {type(part).__name__}"
        ) from None
    return (
        as_array(f"the context of part {index}", context),
        as_array(f"the log_normalizer of part {index}", log_normalizer),
    )
