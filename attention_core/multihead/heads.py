"""Groups of heads that share a scorer and a normalizer, and parts of arguments for a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_integers, is_sparse, to_numpy
from attention_core.attention import Attention, resolve_bias, resolve_normalizer, resolve_scorer
from attention_core.components.bias import Bias
from attention_core.errors import OptionError, OptionTypeError, ShapeError, shown
from attention_core.masking.factors import Dropout
from attention_core.masking.neighborhood import Neighborhood
from attention_core.masking.packing import Packing
from attention_core.multihead.head_biases import bias_of_heads, dropout_of_heads
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array, NormalizerLike, ScorerLike

__all__ = [
    "AttentionOptions",
    "HeadAxes",
    "HeadGroup",
    "add_bias",
    "add_heads",
    "checked_bias",
    "group_heads",
    "normalizers_of_heads",
    "pick_heads",
    "scorers_of_heads",
]

T = TypeVar("T")


class AttentionOptions(TypedDict, total=False):
    """The options of `Attention`."""

    is_causal: bool
    query_offset: ArrayLike | Literal["end"]
    window: tuple[int | None, int | None] | None
    softcap: float | None
    tile: tuple[int, int] | None
    workers: int | None


class HeadGroup(NamedTuple):
    """Heads with the same scorer and normalizer, which are computed together."""

    attention: Attention
    heads: tuple[int, ...]
    key_heads: tuple[int, ...]
    """The head of keys and values for each of them."""
    alike: tuple[tuple[int, ...], tuple[int, ...]]
    """All heads of the layer with the same scorer, and all with the same normalizer."""

    def __str__(self) -> str:
        """The scorer, and the normalizer if it is not the default, of which heads."""
        scorer, normalizer = self.attention.scorer, self.attention.normalizer
        named = f"{scorer}" if normalizer == SOFTMAX else f"{scorer}, {normalizer}"
        return f"{named} for {self.heads}"

    @property
    def scorer_prefix(self) -> str:
        """The prefix of the names of the scorer's parameters in the layer."""
        return f"heads.{self.alike[0][0]}."

    @property
    def normalizer_prefix(self) -> str:
        """The prefix of the names of the normalizer's parameters in the layer."""
        return f"heads.{self.alike[1][0]}.normalizer."

    @property
    def positions(self) -> tuple[int, ...]:
        """The positions of these heads among those with the same normalizer."""
        return tuple(self.alike[1].index(head) for head in self.heads)

    @property
    def seen_heads(self) -> tuple[int, ...]:
        """The `key_heads`, or a single one that broadcasts if all are the same."""
        return self.key_heads[:1] if len(set(self.key_heads)) == 1 else self.key_heads


def group_heads(
    scorers: Sequence[Scorer],
    normalizers: Sequence[Normalizer],
    key_heads: int,
    options: Mapping[str, Any],
) -> tuple[HeadGroup, ...]:
    """Group the heads by their scorers and normalizers, in order of the first head of each.

    Examples
    --------
    >>> scorers = scorers_of_heads(["dot", "scaled_dot", "dot"], 3)
    >>> groups = group_heads(scorers, normalizers_of_heads("entmax", 3), 1, {})
    >>> [group.heads for group in groups]
    [(0, 2), (1,)]
    >>> [group.normalizer_prefix for group in groups]
    ['heads.0.normalizer.', 'heads.0.normalizer.']
    """
    members: dict[tuple[int, int], list[int]] = {}
    for head, pair in enumerate(zip(scorers, normalizers, strict=True)):
        members.setdefault((id(pair[0]), id(pair[1])), []).append(head)
    together = len(scorers) // key_heads
    groups = []
    for heads in members.values():
        scorer, normalizer = scorers[heads[0]], normalizers[heads[0]]
        same = _heads_with(scorer, scorers), _heads_with(normalizer, normalizers)
        own = normalizer.of_heads([same[1].index(head) for head in heads], len(same[1]))
        attention = Attention(scorer, normalizer=own, **options)
        groups.append(
            HeadGroup(attention, tuple(heads), tuple(head // together for head in heads), same)
        )
    return tuple(groups)


def _heads_with(component: object, components: Sequence[object]) -> tuple[int, ...]:
    return tuple(head for head, own in enumerate(components) if own is component)


def scorers_of_heads(scorer: ScorerLike | Sequence[ScorerLike], heads: int) -> list[Scorer]:
    """The scorer of each head, of one for all heads or a sequence of one for each.

    Raises
    ------
    OptionError, OptionTypeError
        For a sequence of another length than the number of heads, or anything but scorers.
    """
    return _of_heads("scorer", scorer, Scorer, resolve_scorer, heads)


def normalizers_of_heads(
    normalizer: NormalizerLike | Sequence[NormalizerLike], heads: int
) -> list[Normalizer]:
    """The normalizer of each head; errors are those of `scorers_of_heads`."""
    return _of_heads("normalizer", normalizer, Normalizer, resolve_normalizer, heads)


def _of_heads(
    what: str, given: Any, base: Any, resolved: Callable[[Any], T], heads: int
) -> list[T]:
    if isinstance(given, (str, Mapping, base)):
        return [resolved(given)] * heads
    if not isinstance(given, Sequence):
        raise OptionTypeError(
            f"{what} must be a name, a mapping with a 'name', a {base.__name__}, or a sequence of "
            f"one for each head, got {given!r}"
        )
    if len(given) != heads:
        raise OptionError(
            f"{what} must be one for all {heads} heads, or {heads} of them, got {len(given)}"
        )
    return [resolved(one) for one in given]


def checked_bias(bias: str | Mapping[str, Any] | Bias | None) -> Bias | None:
    """The bias of a layer.

    Raises
    ------
    OptionTypeError
        For an array or a function, which only a call takes.
    """
    found = resolve_bias(bias)
    if found is None or isinstance(found, Bias):
        return found
    raise OptionTypeError(
        f"the bias of a layer must be a name, a mapping with a 'name', or a Bias, "
        f"got {shown(found)}; arrays and functions go with its calls"
    )


def pick_heads(array: Array, heads: Sequence[int]) -> Array:
    """Select heads: (..., N, n, D) -> (..., heads, n, D); the array itself for all of them."""
    if list(heads) == list(range(array.shape[-3])):
        return array
    return array[..., list(heads), :, :]


def add_heads(total: Array, heads: Sequence[int], part: Array) -> None:
    """Add arrays of some heads to a total; a head may occur more than once."""
    for position, head in enumerate(heads):
        total[..., head, :, :] += part[..., position, :, :]


def add_bias(total: Array, heads: Sequence[int], part: Array) -> None:
    """Add the gradient of a group's part of the bias, which may have been broadcast to all keys.

    >>> total = np.zeros((2, 1, 1))
    >>> add_bias(total, [1], np.ones((1, 1, 3)))
    >>> total.ravel()
    array([0., 3.])
    """
    if part.ndim > total.ndim:  # a single number
        part = part.sum()
    elif part.ndim and total.shape[-1] == 1:
        part = part.sum(axis=-1, keepdims=True)
    if part.size == total.size:
        total += part.reshape(total.shape)
    else:
        add_heads(total, heads, part)


class HeadAxes(NamedTuple):
    """The batch axes and the axis of heads of a call, for checking and selecting arguments."""

    batch: int
    """The number of batch axes."""
    heads: int
    """N, the number of heads."""

    def checked(self, name: str, pairs: Any) -> Any:
        """Check a mask or bias that broadcasts to (..., N, L, S).

        With batched rows, an array of more than two axes must have all axes, unless its axis of
        heads has length 1: (8, L, S) could mean heads or batch items. Axes of length 1 before those
        of the batch are dropped, so that (1, N, L, S) fits rows without a batch.

        Raises
        ------
        ShapeError
            For an array that is ambiguous, or whose axis of heads has another length; for nested
            lists of different lengths.
        """
        if _is_for_all(pairs) or callable(pairs) or isinstance(pairs, (Bias, Dropout)):
            return pairs
        array = to_numpy(name, pairs)
        while array.ndim > self.batch + 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim < 3 or array.shape[-3] == 1:
            return array
        *outer, own, length, keys = array.shape
        if array.ndim < self.batch + 3:
            whole = "(batch, N, L, S)" if self.batch == 1 else "(..., N, L, S)"
            ones = (1,) * (self.batch + 3 - array.ndim)
            raise ShapeError(
                f"{name} is ambiguous where rows are batched: the axes of {array.shape} could be "
                f"heads or batch items; give all of {whole}, {(*ones, *array.shape)} for heads, "
                f"or {(*ones[1:], *outer, own, 1, length, keys)} for batch items"
            )
        if own != self.heads:
            raise ShapeError(
                f"{name} must broadcast to (..., N, L, S) with N = {self.heads} heads, got "
                f"{array.shape}; one per batch item needs an axis for the heads, "
                f"{name}[..., None, :, :]"
            )
        return array

    def pairs(self, name: str, pairs: Any, heads: Sequence[int], offset: ArrayLike | None) -> Any:
        """Select the part of some heads from a checked mask or bias.

        A function is evaluated at the positions of all heads, which differ if `offset` does.

        Raises
        ------
        ShapeError
            For a function whose result is ambiguous, or does not fit the heads.
        """
        if _is_for_all(pairs):
            return pairs
        if isinstance(pairs, Bias):
            return bias_of_heads(pairs, heads, self.heads)
        if isinstance(pairs, Dropout):
            return dropout_of_heads(pairs, heads)
        if callable(pairs):
            return self._function(name, pairs, heads, offset)
        return pairs if pairs.ndim < 3 or pairs.shape[-3] == 1 else pick_heads(pairs, heads)

    def numbers(self, name: str, numbers: ArrayLike | None, heads: Sequence[int]) -> Any:
        """Select the part of some heads from lengths or offsets.

        Raises
        ------
        ShapeError
            For an array whose axis of heads has another length.
        """
        if numbers is None or not self._differs(numbers):
            return numbers
        array = as_integers(name, numbers)
        if array.shape[self.batch] != self.heads:
            raise ShapeError(
                f"{name} must hold one integer, one per batch item, or one per batch item and "
                f"head, with {self.heads} heads; got shape {array.shape}"
            )
        return array.take(heads, self.batch)

    def _differs(self, numbers: ArrayLike | None) -> bool:
        """Whether lengths or offsets differ between heads."""
        shape = () if numbers is None else np.shape(numbers)
        return len(shape) > self.batch and shape[self.batch] != 1

    def _function(
        self, name: str, function: Callable[..., Any], heads: Sequence[int], offset: Any
    ) -> Callable[..., Any]:
        shift: Any = None
        if self._differs(offset) and len(heads) < self.heads:
            offsets = as_integers("query_offset", offset)[..., None, None]  # (..., N, 1, 1)
            shift = offsets - offsets[..., heads[0], None, :, :]

        def of_heads(queries: Array, keys: Array) -> Any:
            if shift is not None:  # positions of the first of these heads, then of all
                queries = queries[..., :1, :, :] + shift
            values = self.checked(name, function(queries, keys))
            return self.pairs(name, values, heads, None)

        return of_heads


def _is_for_all(pairs: Any) -> bool:
    """Whether a mask or bias is that of every head, whatever its axes."""
    return pairs is None or is_sparse(pairs) or isinstance(pairs, (Packing, Neighborhood))
