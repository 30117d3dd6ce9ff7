"""Models that the estimators learn: a scorer, and a trend that is linear in the features.

    regression       y(x) = b . x + sum_j w_j(x) (y_j - b . x_j)
    classification   p(c | x) ~ exp(b_c . x) sum_j w_j(x) [y_j = c]

where ``w(x)`` are the weights of the training rows for x. Attention alone averages, so it flattens
trends and cannot extrapolate; the trend alone ignores neighbors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attention_core import Attention, AttentionResult, Scorer
from attention_core.arrays.quiet import quiet_context
from attention_core.estimators.rows import Rows
from attention_core.leave_one_out import DOUBT, log_loss, shares, squared_error
from attention_core.typing import Array, NormalizerLike

__all__ = ["Classification", "Model", "Regression"]

_FLOOR = 1e-12  # of the ridge, relative to the sum of squares


class Measured(ABC):
    """A loss of contexts that stores its gradients for the trend."""

    grad: Array

    @abstractmethod
    def __call__(
        self, context: Array, expected: Array, weight: Array | None = None
    ) -> tuple[float, Array]:
        """The mean loss and its gradient (n, Dv)."""


@dataclass(frozen=True)
class Model(ABC):
    """A scorer and a trend, learned together."""

    scorer: Scorer
    coefficients: NDArray[np.float64] | None = None
    """(D, Dv); None without a trend."""
    normalizer: NormalizerLike = "softmax"

    @property
    def parameter_vector(self) -> NDArray[np.float64]:
        """All parameters in one vector: those of the scorer, then the coefficients."""
        vector = self.scorer.parameter_vector
        return (
            vector
            if self.coefficients is None
            else np.append(vector, self.coefficients / self._unit)
        )

    def with_parameter_vector(self, vector: ArrayLike, /) -> Self:
        """A copy with other parameters."""
        numbers = np.asarray(vector)
        count = self.scorer.parameter_vector.size
        coefficients = self.coefficients
        if coefficients is not None:
            coefficients = numbers[count:].reshape(coefficients.shape) * self._unit
        return replace(
            self,
            scorer=self.scorer.with_parameter_vector(numbers[:count]),
            coefficients=coefficients,
        )

    @property
    def _unit(self) -> float:
        """The unit of coefficients among the parameters."""
        return 1.0

    @property
    def is_learnable(self) -> bool:
        """Whether there is something to learn after `begun`."""
        return self.parameter_vector.size > 0

    def loss(self, rows: Rows, chosen: Array, workers: int | None) -> tuple[float, Array]:
        """The loss of predicting some rows from all others, and its gradient as a vector."""
        measure, result, found, grad = self._predicted(rows, chosen, workers)
        if not self.scorer.parameters:  # it then needs no gradients
            return found, self._grad_coefficients(rows, chosen, measure, None)
        gradients = result.vjp(grad)
        grad_coefficients = self._grad_coefficients(rows, chosen, measure, gradients.value)
        return found, np.append(gradients.parameter_vector, grad_coefficients)

    def loss_alone(self, rows: Rows, chosen: Array, workers: int | None) -> float:
        """The loss without its gradient."""
        return self._predicted(rows, chosen, workers)[2]

    def _predicted(
        self, rows: Rows, chosen: Array, workers: int | None
    ) -> tuple[Measured, AttentionResult, float, Array]:
        measure = self.measure(rows.key[chosen])
        others = replace(rows, value=self.values(rows)).others(chosen, workers)
        result = others.attend(self.scorer, self.normalizer)
        return measure, result, *measure(result.context, *others.expected)

    def _grad_coefficients(
        self, rows: Rows, chosen: Array, measure: Measured, grad_value: Array | None
    ) -> Array:
        if self.coefficients is None:
            return np.empty(0)
        grad: Array = self.coefficients_vjp(rows, chosen, measure, grad_value) * self._unit
        return grad.reshape(-1)

    def loss_on(self, held: Rows, rows: Rows, workers: int | None) -> float:
        """The loss of predicting rows that are not keys."""
        attention = Attention(self.scorer, normalizer=self.normalizer, workers=workers)
        context = attention(held.key, rows.key, self.values(rows), bias=rows.bias).context
        return self.measure(held.key)(context, self.values(held), held.weight)[0]

    def trend(self, key: Array) -> Array:
        """``b . x`` for rows (n, D): (n, Dv)."""
        assert self.coefficients is not None
        trend: Array = key @ self.coefficients.astype(key.dtype, copy=False)
        return trend

    def begun(self, rows: Rows, chosen: Array, alpha: float, workers: int | None) -> Self:
        """A copy with the initial coefficients."""
        return self

    @abstractmethod
    def values(self, rows: Rows) -> Array:
        """The values of the rows: (n, Dv)."""

    @abstractmethod
    def measure(self, query: Array) -> Measured:
        """The measure of contexts of rows (m, D)."""

    @abstractmethod
    def coefficients_vjp(
        self, rows: Rows, chosen: Array, measure: Measured, grad_value: Array | None
    ) -> Array:
        """The gradient of the coefficients (D, Dv) after `measure` was called.

        `grad_value` (n, Dv) is that of the values, or None if the scorer has no parameters.
        """


class Regression(Model):
    """Regression: the values are the targets minus their trend.

    The initial trend is that of Speckman, 1988, doi:10.1111/j.2517-6161.1988.tb01738.x: the ridge
    regression of the residuals of the targets on the residuals of the features under attention.
    """

    @property
    def is_learnable(self) -> bool:
        """Whether the scorer has parameters, since coefficients alone have a closed form."""
        return self.scorer.parameter_vector.size > 0

    @property
    def _unit(self) -> float:
        """The root of the number of targets, so that the penalty is also an average over them."""
        return 1.0 if self.coefficients is None else float(np.sqrt(self.coefficients.shape[1]))

    def begun(self, rows: Rows, chosen: Array, alpha: float, workers: int | None) -> Self:
        """A copy with the best coefficients for this scorer, which have a closed form."""
        if self.coefficients is None:
            return self
        both = replace(rows, value=np.hstack([rows.value, rows.key]))
        others = both.others(chosen, workers)
        context = others.attend(self.scorer, self.normalizer).context
        left = (both.value[chosen] - context).astype(np.float64, copy=False)  # (m, Dv + D)
        weight = None if rows.weight is None else rows.weight[chosen]
        left = left * np.sqrt(shares(len(left), weight))[:, None]
        target, key = np.split(left, [rows.value.shape[1]], axis=1)  # (m, Dv), (m, D)
        # the floor determines constant features, and copies of each other
        ridge = alpha / rows.total + _FLOOR * float(np.vecdot(key, key).sum() or 1)
        if len(key) < key.shape[1]:  # the smaller of two equal forms
            coefficients = key.T @ np.linalg.solve(key @ key.T + ridge * np.eye(len(key)), target)
        else:
            coefficients = np.linalg.solve(
                key.T @ key + ridge * np.eye(key.shape[1]), key.T @ target
            )
        return replace(self, coefficients=coefficients)

    def values(self, rows: Rows) -> Array:
        """The targets minus their trend."""
        return rows.value if self.coefficients is None else rows.value - self.trend(rows.key)

    def measure(self, query: Array) -> Measured:
        """The squared error; the trend at the query cancels."""
        return _SquaredError()

    def coefficients_vjp(
        self, rows: Rows, chosen: Array, measure: Measured, grad_value: Array | None
    ) -> Array:
        """``-X^T`` times the gradient of the values, as keys and as targets."""
        assert grad_value is not None
        grad = grad_value.copy()  # (n, Dv)
        grad[chosen] -= measure.grad
        return -(rows.key.T @ grad)


class _SquaredError(Measured):
    """The mean squared error over targets, so the penalty is independent of their number."""

    def __call__(
        self, context: Array, expected: Array, weight: Array | None = None
    ) -> tuple[float, Array]:
        found, grad = squared_error(context, expected, weight)
        targets = expected.shape[1]
        self.grad = grad / targets
        return found / targets, self.grad


class Classification(Model):
    """Classification: the values are the labels, and the trend multiplies their odds."""

    def values(self, rows: Rows) -> Array:
        """The labels, one-hot."""
        return rows.value

    def measure(self, query: Array) -> Measured:
        """The log loss."""
        return _LogLoss(None if self.coefficients is None else self.trend(query))

    def coefficients_vjp(
        self, rows: Rows, chosen: Array, measure: Measured, grad_value: Array | None
    ) -> Array:
        """``X^T (p - y)`` over the chosen rows."""
        return rows.key[chosen].T @ measure.grad

    def log_proba(self, query: Array, context: Array) -> Array:
        """``log p`` of each class, for rows (n, D) with their contexts: (n, classes)."""
        if self.coefficients is None:
            return quiet_context().run(_log_shares, context)
        return _log_odds(context, self.trend(query))


class _LogLoss(Measured):
    """The log loss; `grad` is that of the trend."""

    def __init__(self, trend: Array | None) -> None:
        self._trend = trend

    def __call__(
        self, context: Array, expected: Array, weight: Array | None = None
    ) -> tuple[float, Array]:
        if self._trend is None:
            return log_loss(context, expected, weight)
        log_p = _log_odds(context, self._trend)  # (n, classes)
        part = shares(len(log_p), weight)[:, None]  # (n, 1)
        self.grad = part * (np.exp(log_p) - expected)
        grad: Array = self.grad * (1 - DOUBT) / _doubted(context)
        return float(-(part * expected * log_p).sum()), grad.astype(context.dtype)


def _doubted(context: Array) -> Array:
    """Shares mixed with a thousandth of a uniform guess, for finite logarithms."""
    doubted: Array = (1 - DOUBT) * context + DOUBT / context.shape[-1]
    return doubted


def _log_odds(context: Array, trend: Array) -> Array:
    """``log p`` for shares of attention (n, classes) and a trend (n, classes)."""
    odds = np.log(_doubted(context)) + trend
    odds = odds - odds.max(axis=1, keepdims=True)
    log_p: Array = odds - np.log(np.exp(odds).sum(axis=1, keepdims=True))
    return log_p


def _log_shares(context: Array) -> Array:
    """Logarithms of the shares of each label in the weights, which may not sum to 1."""
    logarithms: Array = np.log(context / context.sum(axis=1, keepdims=True))
    return logarithms
