"""Groups of heads that share a scorer and a normalizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from attention_core.arguments import unexpected_argument
from attention_core.attention import Attention, resolve_normalizer, resolve_scorer
from attention_core.errors import (
    OptionError,
    OptionTypeError,
    how_to_make,
    shown,
)
from attention_core.normalizing.normalizer import Normalizer
from attention_core.normalizing.softmax import SOFTMAX
from attention_core.options import OPTIONS, check_option
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array, NormalizerLike, ScorerLike

__all__ = [
    "AttentionOptions",
    "HeadGroup",
    "add_bias",
    "add_heads",
    "checked_options",
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
    """The head of keys and values of each head."""
    alike: tuple[tuple[int, ...], tuple[int, ...]]
    """All heads of the layer with the same scorer, and all with the same normalizer."""

    def __str__(self) -> str:
        """The scorer, the normalizer if it is not the default, and the heads."""
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
    """The scorer of each head, from one for all heads or a sequence of one for each.

    Raises
    ------
    OptionError, OptionTypeError
        For a sequence whose length is not the number of heads, or anything but scorers.
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
            f"one for each head, got {shown(given)}{how_to_make(base, given)}"
        )
    if len(given) != heads:
        raise OptionError(
            f"{what} must be one for all {heads} heads, or {heads} of them, got {len(given)}"
        )
    return [resolved(one) for one in given]


def checked_options(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a layer that differ from the defaults, in their normal form.

    Raises
    ------
    OptionTypeError
        For an argument that `function` does not have.
    OptionError
        For an impossible value.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise unexpected_argument(function, unknown, OPTIONS)
    checked = {name: check_option(name, value) for name, value in options.items()}
    return {name: own for name, own in checked.items() if not np.array_equal(own, OPTIONS[name])}


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

    >>> import numpy as np
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
