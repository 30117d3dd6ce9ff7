"""A call as the engines see it, and the two ways to compute it: on tiles and on edges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from attention_core.arrays.batch import Batch, Shape, take
from attention_core.arrays.strided import has_contiguous_rows
from attention_core.compiled.switch import is_switched_on
from attention_core.masking.bias import BiasTerm
from attention_core.masking.factors import Factors
from attention_core.masking.masking import Masking
from attention_core.masking.positions import UNSHIFTED, Positions
from attention_core.normalizing.normalizer import Normalizer, Statistics
from attention_core.normalizing.softmax import Softmax
from attention_core.parallel.jobs import Jobs
from attention_core.scoring.contract import checked_scale, project
from attention_core.scoring.scorer import ParameterGrads, Scorer
from attention_core.typing import Array, Weights

__all__ = ["Engine", "PreparedGradients", "Problem", "Readout", "Upstream", "without_nonfinite"]


@dataclass(slots=True, eq=False, repr=False)
class Problem:
    """A checked call: everything the engines need to know.

    `engine/dispatch.py` makes it of queries and keys as given, and projects them in place.
    """

    scorer: Scorer
    query: Array
    """(..., L, H): projected, in the computing dtype, with every batch axis, 1 to broadcast."""
    key: Array
    """(..., S, H): likewise."""
    value: Array
    """(..., S, Dv): in the same dtype, with every batch axis."""
    batch: Shape
    normalizer: Normalizer
    masking: Masking | None = None
    bias: BiasTerm | None = None
    softcap: float | None = None
    tile: tuple[int, int] | None = None
    workers: int | None = None
    positions: Positions = UNSHIFTED
    """The positions given to functions."""
    factors: Factors | None = None
    projects_tiles: bool = False
    """Whether queries are still unprojected, (..., L, Dq), and each tile projects its own."""
    readings: Jobs | None = None
    """Passes over the inputs that are yet to be made, which may share the threads of the engine."""

    @property
    def shape(self) -> Shape:
        """The shape of the scores: (..., L, S)."""
        return (*self.batch, self.query.shape[-2], self.key.shape[-2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype to compute in."""
        return self.query.dtype

    @property
    def has_compiled_form(self) -> bool:
        """Whether it is a softmax of inner products with at most a mask, which loops can read."""
        return (
            self.scorer.traits.is_inner_product
            and type(self.normalizer) is Softmax
            and self.bias is None
            and self.softcap is None
            and self.factors is None
            and self.tile is None
            and has_contiguous_rows(self.key)
            and has_contiguous_rows(self.value)
            and is_switched_on()
        )

    def queries(self, batch: Batch, rows: slice) -> Array:
        """Some projected queries: (..., l, H)."""
        query = take(self.query, batch, rows)
        return project(self.scorer, "project_query", query) if self.projects_tiles else query

    def unscaled_queries(self, batch: Batch, rows: slice) -> tuple[Array, float]:
        """Some queries, and a number that has yet to be multiplied with them."""
        if self.projects_tiles and self.scorer.traits.scales_query:
            query = take(self.query, batch, rows)
            return query, checked_scale(self.scorer, query.shape[-1])
        return self.queries(batch, rows), 1.0

    def projected(self) -> Problem:
        """The same problem with all its queries projected."""
        if not self.projects_tiles:
            return self
        query = project(self.scorer, "project_query", self.query)
        return replace(self, query=query, projects_tiles=False)


class Engine(Protocol):
    """A way to compute a problem."""

    problem: Problem

    def attend(self) -> tuple[Array, Statistics]:
        """The context (..., L, Dv), and the normalizer's statistics (..., L, 1)."""


class Readout(Protocol):
    """Answers about a computed problem; all but `weights` and `scores` need tile memory only."""

    def weights(self, rows: range | None = None) -> Weights:
        """Finished weights of all queries, or of some of them: (..., l, S)."""

    def scores(self, rows: range | None = None) -> Weights:
        """Masked scores of all queries, or of some of them: (..., l, S)."""

    def entropy(self) -> Array:
        """The entropy of each row of weights, in nats: (..., L)."""

    def key_mass(self) -> Array:
        """The weight each key receives from all queries: (..., S)."""

    def top_k(self, n: int) -> tuple[Array, Array]:
        """Indices and weights of the strongest keys of each row: (..., L, n)."""


class Upstream(NamedTuple):
    """Gradients of a loss with respect to what a call returned."""

    context: Array
    """(..., L, Dv)"""
    weights: BiasTerm | None
    """Gradients of the weights, read tile by tile."""
    dot: Array
    """(..., L, 1): ``sum_j P dP`` of every row minus the gradient of the log-normalizer."""


class PreparedGradients(NamedTuple):
    """Gradients of the arrays of a problem, or the contribution of one tile."""

    query: Array
    """(..., L, H): of the queries as they are in the problem."""
    key: Array
    """(..., S, H)"""
    value: Array
    """(..., S, Dv)"""
    bias: Any
    """Gradients of the bias by name; for one tile, its `Contributions` to them."""
    parameters: ParameterGrads

    @classmethod
    def zeros(cls, problem: Problem) -> PreparedGradients:
        """Zeros in the shapes of the problem's arrays."""

        def zeros(array: Array) -> Array:
            return np.zeros(array.shape, problem.dtype)

        return cls(
            zeros(problem.query),
            zeros(problem.key),
            zeros(problem.value),
            {} if problem.bias is None else problem.bias.zeros(problem.dtype),
            {name: zeros(array) for name, array in problem.scorer.parameters.items()},
        )


def without_nonfinite(array: Array) -> Array:
    """The array with NaN as 0 and Inf as a large number whose products are finite.

    A masked pair contributes a derivative times 0, which must be 0. The gradient of an allowed pair
    is still NaN, through the gradient of its score.
    """
    if np.isfinite(array).all():
        return array
    large = float(np.finfo(array.dtype).max) ** 0.125
    return np.nan_to_num(array, nan=0.0, posinf=large, neginf=-large)
