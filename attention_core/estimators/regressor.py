"""Regression: the targets of the training rows, weighted by attention."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from attention_core.estimators.base import AttentionEstimator
from attention_core.leave_one_out import squared_error
from attention_core.typing import Array

__all__ = ["AttentionRegressor"]


class AttentionRegressor(RegressorMixin, AttentionEstimator):  # type: ignore[misc]
    """A regressor that attends to its training rows.

        y(x) = sum_j softmax_j(score(x, x_j)) y_j

    The scorer's parameters are learned by leaving one row out: each row is predicted from all
    others, and the squared error of these predictions is minimized with L-BFGS-B. Each of several
    targets counts alike, in units of its deviation.

    Parameters
    ----------
    scorer, fit_scorer, max_iter, tol, penalty, batch_size, early_stopping, validation_fraction, \
n_iter_no_change, workers, verbose, random_state
        As for `AttentionClassifier`.

    Attributes
    ----------
    scorer_
        The scorer, learned.
    memory_
        Keys and values: the training rows and their targets, in units of their deviation.
    n_iter_, loss_curve_, validation_losses_
        As for `AttentionClassifier`; without the penalty, losses are shares of the targets'
        variance, on average over the targets.

    Notes
    -----
    Predictions stay within the range of the targets. See `AttentionClassifier` for scale and
    memory.

    References
    ----------
    Nadaraya 1964, doi:10.1137/1109020. Watson 1964, "Smooth regression analysis", Sankhya A 26.

    Examples
    --------
    >>> import numpy as np
    >>> from attention_core.estimators import AttentionRegressor
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.tanh(2 * X[:, 0])
    >>> model = AttentionRegressor(random_state=0).fit(X[:150], y[:150])
    >>> model.score(X[150:], y[150:]) > 0.8
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Keep the rows X (n, D) with their targets y, (n,) or (n, targets); learn the scorer."""
        key, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True
        )
        self._is_flat = targets.ndim == 1
        columns = targets.reshape(len(targets), -1).astype(np.float64)  # (n, targets)
        # losses are then of one size, and float32 loses no digits to a large mean
        self._mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        self._deviation = np.where(deviation > 0, deviation, 1.0)
        value = ((columns - self._mean) / self._deviation).astype(key.dtype)
        return self._keep(key, value, _share_of_variance)

    def predict(self, X: ArrayLike) -> Array:
        """The targets, weighted by attention: (n,), or (n, targets)."""
        context = self.attend(X).context
        predicted: Array = (context * self._deviation + self._mean).astype(context.dtype)
        return predicted[:, 0] if self._is_flat else predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _share_of_variance(context: Array, expected: Array) -> tuple[float, Array]:
    """The squared error of a target, on average; the penalty weighs the same for any number."""
    loss, grad = squared_error(context, expected)
    targets = expected.shape[1]
    return loss / targets, grad / targets
