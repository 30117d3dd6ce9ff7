"""A problem of the comparison, and its arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Inputs", "Problem", "make_inputs"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One computation: queries (*batch, L, D) attend to keys and values (*batch, S, D)."""

    scorer: str
    batch: tuple[int, ...] = ()
    L: int
    S: int
    D: int
    H: int = 0
    """Hidden units of the additive scorer."""
    dtype: str = "float32"
    is_causal: bool = False
    window: tuple[int, int] | None = None
    is_prepared: bool = False
    """Whether keys are already projected, as in decoder steps."""
    is_backward: bool = False
    """Whether the gradients of all inputs are computed, for a given gradient of the result."""
    is_training: bool = False
    """Whether a training step is computed: the result and the gradients of all inputs."""
    edges: int = 0
    """The number of random keys that each query may attend to; 0 for all keys."""
    grid: tuple[int, ...] = ()
    """The grid on which each query may attend to its neighbors; empty for all."""
    radius: int = 0
    """The largest distance of neighbors in each dimension of the grid."""

    def shrunk(self) -> Problem:
        """A small problem of the same kind."""
        return replace(
            self,
            batch=tuple(min(n, 2) for n in self.batch),
            L=min(self.L, 8),
            S=min(self.S, 8),
            D=min(self.D, 4),
            H=min(self.H, 4),
            edges=min(self.edges, 4),
            grid=(2, 4) if self.grid else (),
        )


class Inputs(NamedTuple):
    """The arrays of a problem, the same for every peer."""

    query: Array  # (*batch, L, D)
    key: Array  # (*batch, S, D)
    value: Array  # (*batch, S, D)
    query_weight: Array  # (D, H)
    key_weight: Array  # (D, H)
    score_weight: Array  # (H,)
    edges: tuple[Array, Array]
    """The query and key indices of the edges, sorted; empty without edges."""
    grad: Array
    """The gradient of the result: (*batch, L, D)."""


def make_inputs(problem: Problem) -> Inputs:
    """Draw standard normal queries, keys and values, and weights that preserve their scale."""
    rng = np.random.default_rng(1409_0473)

    def normal(*shape: int, fan_in: int = 1) -> Array:
        array: Array = rng.standard_normal(shape) / fan_in**0.5
        return array.astype(problem.dtype)

    batch, d, h = problem.batch, problem.D, problem.H
    pairs = np.repeat(np.arange(problem.L), problem.edges) * problem.S
    pairs = np.unique(pairs + rng.integers(0, problem.S, len(pairs)))
    return Inputs(
        query=normal(*batch, problem.L, d),
        key=normal(*batch, problem.S, d),
        value=normal(*batch, problem.S, d),
        query_weight=normal(d, h, fan_in=d),
        key_weight=normal(d, h, fan_in=d),
        score_weight=normal(h, fan_in=max(h, 1)),
        edges=(pairs // problem.S, pairs % problem.S),
        grad=normal(*batch, problem.L, d),
    )
