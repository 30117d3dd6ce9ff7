"""What the classifier and the regressor share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from attention_core import Attention, AttentionResult, Scorer
from attention_core.estimators.learning import learned
from attention_core.estimators.start import starting_scorer
from attention_core.leave_one_out import Measure
from attention_core.options import check_amount, check_count, check_fraction
from attention_core.typing import Array

__all__ = ["AttentionEstimator"]


class AttentionEstimator(BaseEstimator):  # type: ignore[misc]
    """Rows attend to the training rows: ``c(x) = sum_j softmax_j(score(x, x_j)) v_j``.

    The parameters are those of `AttentionClassifier` and `AttentionRegressor`.
    """

    def __init__(
        self,
        scorer: str | Mapping[str, Any] | Scorer = "additive",
        *,
        fit_scorer: bool = True,
        max_iter: int = 100,
        tol: float = 1e-4,
        penalty: float = 1e-3,
        batch_size: int = 2000,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        workers: int | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.scorer = scorer
        self.fit_scorer = fit_scorer
        self.max_iter = max_iter
        self.tol = tol
        self.penalty = penalty
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.workers = workers
        self.verbose = verbose
        self.random_state = random_state

    def attend(self, X: ArrayLike) -> AttentionResult:
        """What rows attend to: a result whose keys are the training rows, in their order.

        Parameters
        ----------
        X : (n, D)

        Returns
        -------
        AttentionResult
            With `weights`, the strongest training rows as ``top_k(n)``, and more.
        """
        check_is_fitted(self)
        queries = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        # one dtype for all: float32 rows among float64 keys would only be copied
        queries = queries.astype(self.memory_.dtype, copy=False)
        return Attention(self.scorer_, workers=self.workers)(queries, self.memory_)

    def _keep(self, key: Array, value: Array, measure: Measure) -> Self:
        """Learn the scorer if there is anything to learn; keep keys (n, D) and values (n, Dv)."""
        self._check_options()
        random_state = check_random_state(self.random_state)
        scorer = starting_scorer(self.scorer, key.shape[1], random_state)
        self.n_iter_ = 1  # also where nothing is learned: scikit-learn allows no 0
        self.loss_curve_: list[float] = []
        self.validation_losses_: list[float] = []
        if self.fit_scorer and scorer.parameters:
            found = learned(
                scorer,
                key,
                value,
                measure,
                max_iter=self.max_iter,
                tol=self.tol,
                penalty=self.penalty,
                batch_size=self.batch_size,
                validation_fraction=self.validation_fraction if self.early_stopping else None,
                patience=self.n_iter_no_change,
                random_state=random_state,
                workers=self.workers,
                progress=bool(self.verbose),
            )
            scorer, self.n_iter_ = found.scorer, max(1, found.n_iter)
            self.loss_curve_ = list(found.losses)
            self.validation_losses_ = list(found.validation_losses)
        self.scorer_ = scorer
        self.memory_ = Attention(scorer).memory(key, value)
        return self

    def _check_options(self) -> None:
        """Raise for impossible options, used or not, as scikit-learn's estimators do."""
        check_count("max_iter", self.max_iter)
        check_amount("tol", self.tol)
        check_amount("penalty", self.penalty)
        check_count("batch_size", self.batch_size)
        check_fraction("validation_fraction", self.validation_fraction)
        check_count("n_iter_no_change", self.n_iter_no_change)
