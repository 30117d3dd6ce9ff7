"""Regression: the targets of the training rows, weighted by attention."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from attention_core.arrays.inputs import check_unmasked
from attention_core.estimators.base import AttentionEstimator
from attention_core.estimators.model import Regression
from attention_core.estimators.rows import Rows, Units, equal_rows
from attention_core.typing import Array

__all__ = ["AttentionRegressor"]


class AttentionRegressor(RegressorMixin, AttentionEstimator):  # type: ignore[misc]  # has no types
    """A regressor that attends to its training rows.

        y(x) = b . x + sum_j softmax_j(score(x, x_j)) (y_j - b . x_j)

    The parameters of the scorer and the trend b are learned by leaving one row out: each row is
    predicted from all others, and the squared error of these predictions is minimized with
    L-BFGS-B. Several targets count equally, in units of their deviations. Without a trend,
    predictions are averages of the training targets and stay within their range.

    Parameters
    ----------
    scorer, normalizer, fit_scorer, trend, standardize, alpha, max_iter, tol, batch_size, \
early_stopping, validation_fraction, n_iter_no_change, workers, verbose, random_state
        As for `AttentionClassifier`, except that all features are scaled equally.

    Attributes
    ----------
    scorer_
        The learned scorer, for standardized rows like the keys of `memory_`.
    trend_ : (D, targets)
        The trend b for standardized rows and targets; None without one.
    memory_
        Keys and values: the training rows, and their targets in units of their deviation minus the
        trend.
    n_iter_, loss_curve_, validation_losses_
        As for `AttentionClassifier`; without the penalty, losses are fractions of the variance of
        the targets, averaged over the targets.

    Warns
    -----
    ConvergenceWarning
        If learning ended at `max_iter`.

    Notes
    -----
    Learning begins with the trend of Speckman's partial linear regression, which has a closed
    form. See `AttentionClassifier` for scale, equal rows and memory.

    References
    ----------
    Nadaraya 1964, doi:10.1137/1109020. Watson 1964, "Smooth regression analysis", Sankhya A 26.
    Speckman 1988, doi:10.1111/j.2517-6161.1988.tb01738.x (the trend). Fan and Yao 1998,
    doi:10.1093/biomet/85.3.645 (deviations from squared residuals).

    Examples
    --------
    >>> import numpy as np
    >>> from attention_core.estimators import AttentionRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.tanh(2 * X[:, 0])
    >>> model = AttentionRegressor().fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.95
    True
    >>> mean, std = model.predict([[0.0, 0.0]], return_std=True)
    >>> bool(abs(mean[0]) < 0.2), std.shape
    (True, (1,))
    """

    _model = Regression

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Store the rows X (n, D) with their targets y, (n,) or (n, targets); learn the scorer.

        `sample_weight` (n,) is how often each row counts: 2 is equivalent to the row twice, 0 to
        removing it.
        """
        check_unmasked(X=X, y=y)
        key, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True
        )
        weight = self._sample_weight(sample_weight, key)
        key, targets, kept = key[weight > 0], targets[weight > 0], weight[weight > 0]
        self._is_flat = targets.ndim == 1
        columns = targets.reshape(len(targets), -1).astype(np.float64)  # (n, targets)
        # losses then have the same scale, and float32 loses no digits to a large mean
        self._targets = Units.standardizing(columns, kept)
        value = self._targets.measured(columns).astype(key.dtype)
        self._errors: Array | None = None
        self._keep(Rows(key, value, kept if (kept != 1).any() else None))
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """The targets: (n,), or (n, targets).

        With `return_std` also the standard deviation of their error, in the same shape: the root of
        the leave-one-out squared errors at the training rows, weighted by attention. The first such
        call predicts all training rows.
        """
        queries = self._queries(X)
        mean = self._attend(queries).context  # (n, targets)
        if self.trend_ is not None:
            mean = mean + queries @ self.trend_.astype(queries.dtype, copy=False)
        predicted = (mean * self._deviation + self._targets.mean).astype(mean.dtype)
        if not return_std:
            return self._shaped(predicted)
        if self._errors is None:
            self._errors = self._squared_errors()
        key = self.memory_.given_key
        variance = self._attention()(
            queries, key, self._errors, bias=self._bias
        ).context  # (n, targets)
        deviation = (np.sqrt(variance) * self._deviation).astype(mean.dtype)
        return self._shaped(predicted), self._shaped(deviation)

    def _squared_errors(self) -> Array:
        """Squared errors of the training rows, each predicted from all others: (n, targets)."""
        key = self.memory_.given_key
        rows = Rows(key, self.memory_.value, self._weight, equal_rows(key))
        others = rows.others(np.arange(len(rows)), self.workers)
        return (others.attend(self.scorer_, self.normalizer).context - rows.value) ** 2

    @property
    def _deviation(self) -> Array:
        """The deviation of each target: (targets,)."""
        factor = self._targets.factor
        return np.divide(1.0, factor, out=np.zeros_like(factor), where=factor > 0)

    def _shaped(self, columns: Array) -> Array:
        """(n, targets) in the shape of the given targets: (n,) for a single one."""
        return columns[:, 0] if self._is_flat else columns

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
