"""The objective: a loss with a penalty as a function of a vector, finite everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core.arrays.inputs import to_numpy
from attention_core.errors import OptionError, OptionTypeError, ShapeError, shown

__all__ = ["Learnable", "Loss", "Objective", "S", "Vector"]

Vector = NDArray[np.float64]


class Learnable(Protocol):
    """A `Scorer`, a `MultiHeadAttention`, or another object with a parameter vector (n,)."""

    @property
    def parameter_vector(self) -> Vector:
        """All parameters in one vector."""

    def with_parameter_vector(self, vector: ArrayLike, /) -> Self:
        """A copy with other parameters."""


class HasVector(Protocol):
    """Gradients with a defined order, such as those of `AttentionResult.vjp`."""

    @property
    def parameter_vector(self) -> Vector:
        """The gradients of all parameters in one vector."""


S = TypeVar("S", bound=Learnable)
Loss = Callable[[S], tuple[float, HasVector | ArrayLike]]
"""The loss of a scorer, and its gradients: those of `vjp`, or in the order of
`Scorer.parameter_vector`."""


class Objective(Generic[S]):
    """A loss and a penalty for SciPy: finite everywhere, even if the loss is not."""

    def __init__(
        self, loss: Loss[S], scorer: S, vector: Vector, start: Vector, penalty: float
    ) -> None:
        self._loss = loss
        self._scorer = scorer
        self._start = start
        self._penalty = penalty
        self._vector = vector
        self.value, self._gradient = self._evaluated(vector)
        if not np.isfinite(self.value):
            raise OptionError(
                f"loss must be finite at its start, got {self.value}: the arrays hold NaN or Inf, "
                f"or {scorer} gives them such scores"
            )
        bad = np.count_nonzero(~np.isfinite(self._gradient))
        if bad:
            raise OptionError(
                f"loss must have finite gradients at its start, got {bad} of {len(vector)} that "
                f"are NaN or Inf: fix those of the loss, or of {scorer}"
            )

    def __call__(self, vector: Vector) -> tuple[float, Vector]:
        """The value at a vector, and its gradient (n,)."""
        if np.array_equal(vector, self._vector):  # SciPy's first call
            value, gradient = self.value, self._gradient
        else:
            value, gradient = self._evaluated(vector)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            # SciPy interpolates the returned values: infinity would give NaN, and a number too
            # large for this loss would give steps so short that they pass for convergence. The
            # value returned is therefore as far above that at the start of the iteration as the
            # gradient there predicts it to fall below, with the opposite derivative, so a seventh
            # of the step is tried next. No iteration ends above its start, so none ends here, even
            # after rounding.
            rise = abs(float(self._gradient @ (vector - self._vector)))
            return max(self.value + rise, float(np.nextafter(self.value, np.inf))), -self._gradient
        self._latest = gradient
        return value, gradient

    def begin_iteration(self, vector: Vector, value: float) -> None:
        """Continue from a vector with this value, the last one that was evaluated."""
        self._vector, self.value, self._gradient = vector, value, self._latest

    def _evaluated(self, vector: Vector) -> tuple[float, Vector]:
        value, gradient = _evaluated(self._loss, self._scorer.with_parameter_vector(vector))
        away = vector - self._start
        return value + self._penalty * float(away @ away), gradient + 2 * self._penalty * away


def _evaluated(loss: Loss[S], scorer: S) -> tuple[float, Vector]:
    """The loss of a scorer, and its gradients as a vector (n,)."""
    returned: Any = loss(scorer)
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise OptionTypeError(
            f"loss must return a number and its gradients, as result.vjp returns them, "
            f"got {shown(returned)}"
        )
    value, gradients = returned
    given: Any = getattr(gradients, "parameter_vector", gradients)
    vector = to_numpy("the gradients", given)
    gradient = vector.astype(np.float64, copy=False)
    if gradient.shape != scorer.parameter_vector.shape:
        raise ShapeError(
            f"loss must return the gradients of all parameters in one vector of shape "
            f"{scorer.parameter_vector.shape}, got {gradient.shape}"
        )
    return float(value), gradient
