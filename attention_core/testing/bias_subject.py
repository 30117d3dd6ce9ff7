"""The bias under examination, and positions to try it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attention_core import Bias
from attention_core.registry.kinds import BIAS
from attention_core.testing.report import Violation
from attention_core.testing.subject import Subject
from attention_core.typing import Array

__all__ = ["BiasSubject"]


@dataclass(frozen=True)
class BiasSubject(Subject):
    """A bias, with positions."""

    kind = BIAS
    results = "numbers"

    @property
    def bias(self) -> Bias:
        """The bias."""
        bias: Bias = self.component
        return bias

    @property
    def heads(self) -> tuple[int, ...]:
        """The axes before those of positions: one if parameters differ between heads, or none."""
        return self.tile(*self.positions(1, 1)).shape[:-2]

    def trial(self) -> Callable[[Bias], Array]:
        """The numbers of some positions, as a function of the bias."""
        places = self.positions(5, 7)
        return lambda bias: np.array(bias.tile(*places))

    def positions(self, length: int, key_length: int, first: int = 0) -> tuple[Array, Array]:
        """Positions of queries (l, 1), of which the first is given, and of keys (1, s)."""
        return np.arange(first, first + length)[:, None], np.arange(key_length)[None, :]

    def tile(self, query_positions: Array, key_positions: Array) -> Array:
        """The numbers of a tile: with all of its last two axes, a copy."""
        with np.errstate(all="ignore"):
            found = np.asarray(self.bias.tile(query_positions, key_positions))
        if found.dtype.kind not in "iuf":
            raise Violation(f"tile returned dtype {found.dtype}, not real numbers")
        whole = np.broadcast_shapes(query_positions.shape, key_positions.shape)
        try:
            if np.broadcast_shapes(found.shape[-2:], whole[-2:]) == whole[-2:]:
                return np.broadcast_to(found, (*found.shape[:-2], *whole[-2:])).copy()
        except ValueError:
            pass  # it is told below
        raise Violation(
            f"tile returned shape {found.shape} for query positions {query_positions.shape} and "
            f"key positions {key_positions.shape}"
        )
