"""What multi-head attention is made of: arrays that fit together, and the heads of each scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypedDict, Unpack

from numpy.typing import ArrayLike

from attention_core.arrays.inputs import as_array
from attention_core.attention import Attention
from attention_core.errors import OptionError, OptionTypeError
from attention_core.multihead.layout import LAYOUT, checked_sizes
from attention_core.options import check_option
from attention_core.scoring.parameters import Parameterized
from attention_core.scoring.scorer import Scorer
from attention_core.typing import Array

__all__ = ["AttentionOptions", "HeadGroup", "HeadParameters", "ScorerLike"]

ScorerLike = str | Mapping[str, Any] | Scorer


class AttentionOptions(TypedDict, total=False):
    """The options of `Attention`."""

    is_causal: bool
    query_offset: ArrayLike
    window: tuple[int | None, int | None] | None
    softcap: float | None
    tile: tuple[int, int] | None
    workers: int | None


class HeadGroup(NamedTuple):
    """The heads that have the same scorer."""

    attention: Attention
    heads: tuple[int, ...]
    key_heads: tuple[int, ...]
    """Whose keys and values each of them sees."""

    @property
    def prefix(self) -> str:
        """What the names of the scorer's parameters begin with."""
        return f"heads.{self.heads[0]}."

    @property
    def seen_heads(self) -> tuple[int, ...]:
        """The same, or one for all, which broadcasts."""
        return self.key_heads[:1] if len(set(self.key_heads)) == 1 else self.key_heads


class HeadParameters(Parameterized):
    """The arrays of projections and the scorers of heads: see `MultiHeadAttention`."""

    def __init__(
        self,
        query_weight: ArrayLike,
        key_weight: ArrayLike,
        value_weight: ArrayLike,
        output_weight: ArrayLike,
        *,
        query_bias: ArrayLike | None = None,
        key_bias: ArrayLike | None = None,
        value_bias: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        scorer: ScorerLike | Sequence[ScorerLike] = "scaled_dot",
        **options: Unpack[AttentionOptions],
    ) -> None:
        weights = query_weight, key_weight, value_weight, output_weight
        biases = query_bias, key_bias, value_bias, output_bias
        self.arrays: dict[str, Array] = {
            name: as_array(name, array).copy()  # whoever gave it may go on writing to it
            for name, array in zip(LAYOUT, weights + biases, strict=True)
            if array is not None
        }
        """Copies of the arrays given, by name."""
        sizes = checked_sizes(self.arrays)
        self.heads: int = sizes["N"]
        """N, the number of heads."""
        self.key_heads: int = sizes["M"]
        """M, the number of heads that keys and values have."""
        for name, value in options.items():
            check_option(name, value)  # Attention would not say which there are
        self.groups: tuple[HeadGroup, ...] = _groups(scorer, self.heads, self.key_heads, options)
        """The heads of each scorer."""
        self._options = options
        for group in self.groups:
            group.attention.scorer.check_features(sizes["Dq"], sizes["Dk"])

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """The scorer of each head."""
        of_head = {head: group.attention.scorer for group in self.groups for head in group.heads}
        return tuple(of_head[head] for head in range(self.heads))

    @property
    def parameters(self) -> dict[str, Array]:
        """Every array that can be learned: those given, then those of the scorers."""
        return self.arrays | {
            f"{group.prefix}{name}": array
            for group in self.groups
            for name, array in group.attention.scorer.parameters.items()
        }

    def _replaced(self, parameters: Mapping[str, Array]) -> Self:
        arrays = {name: parameters.get(name, array) for name, array in self.arrays.items()}
        scorers = list(self.scorers)
        for group in self.groups:
            own = {
                name.removeprefix(group.prefix): array
                for name, array in parameters.items()
                if name.startswith(group.prefix)
            }
            if own:
                changed = group.attention.scorer.with_parameters(own)
                for head in group.heads:
                    scorers[head] = changed
        return type(self)(**arrays, scorer=scorers, **self._options)

    def __str__(self) -> str:
        return "multi-head attention"

    def __repr__(self) -> str:
        scorers = ", ".join(f"{group.attention.scorer} for {group.heads}" for group in self.groups)
        return f"MultiHeadAttention(heads={self.heads}, key_heads={self.key_heads}, {scorers})"


def _groups(
    scorer: ScorerLike | Sequence[ScorerLike], heads: int, key_heads: int, options: AttentionOptions
) -> tuple[HeadGroup, ...]:
    """The heads of each scorer, in order of the first of them.

    Raises
    ------
    OptionError, OptionTypeError
        For another number of scorers than heads, or what is none.

    Examples
    --------
    >>> [group.heads for group in _groups(["dot", "scaled_dot", "dot"], 3, 1, {})]
    [(0, 2), (1,)]
    """
    if isinstance(scorer, (str, Mapping, Scorer)):
        attention = Attention(scorer, **options)
        members = {id(attention.scorer): (attention, list(range(heads)))}
    else:
        if not isinstance(scorer, Sequence):
            raise OptionTypeError(
                f"scorer must be a name, a mapping with a 'name', a Scorer, or a sequence of one "
                f"for each head, got {scorer!r}"
            )
        if len(scorer) != heads:
            raise OptionError(
                f"scorer must be one for all {heads} heads, or {heads} of them, got {len(scorer)}"
            )
        members = {}
        for head, one in enumerate(scorer):
            attention = Attention(one, **options)
            members.setdefault(id(attention.scorer), (attention, []))[1].append(head)
    together = heads // key_heads
    return tuple(
        HeadGroup(attention, tuple(own), tuple(head // together for head in own))
        for attention, own in members.values()
    )
