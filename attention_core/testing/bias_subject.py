"""The bias under test, and positions to evaluate it at."""

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
    """A bias and positions."""

    kind = BIAS
    results = "values"

    @property
    def bias(self) -> Bias:
        """The bias."""
        bias: Bias = self.component
        return bias

    @property
    def heads(self) -> tuple[int, ...]:
        """The axes before the positions: one if parameters differ between heads, else none."""
        return self.tile(*self.positions(1, 1)).shape[:-2]

    def trial(self) -> Callable[[Bias], Array]:
        """Return a function that evaluates a bias at some positions."""
        positions = self.positions(5, 7)
        return lambda bias: np.array(bias.tile(*positions))

    def positions(self, length: int, key_length: int, first: int = 0) -> tuple[Array, Array]:
        """Positions of queries (l, 1), starting at `first`, and of keys (1, s)."""
        return np.arange(first, first + length)[:, None], np.arange(key_length)[None, :]

    def tile(self, query_positions: Array, key_positions: Array) -> Array:
        """A copy of the values of a tile, broadcast to its last two axes."""
        with np.errstate(all="ignore"):
            found = np.asarray(self.bias.tile(query_positions, key_positions))
        if found.dtype.kind not in "iuf":
            raise Violation(f"tile returned dtype {found.dtype}, not real numbers")
        whole = np.broadcast_shapes(query_positions.shape, key_positions.shape)
        try:
            if np.broadcast_shapes(found.shape[-2:], whole[-2:]) == whole[-2:]:
                return np.broadcast_to(found, (*found.shape[:-2], *whole[-2:])).copy()
        except ValueError:
            pass  # reported below
        raise Violation(
            f"tile returned shape {found.shape} for query positions {query_positions.shape} and "
            f"key positions {key_positions.shape}"
        )
