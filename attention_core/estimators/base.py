"""The base of the classifier and the regressor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from attention_core import (
    Attention,
    AttentionResult,
    Normalizer,
    OptionError,
    OptionTypeError,
    Scorer,
)
from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import check_unmasked
from attention_core.arrays.scalars import check_amount, check_count, check_flag, check_fraction
from attention_core.errors import shown
from attention_core.estimators.initial import initial_scorer
from attention_core.estimators.learning import Learned, Settings, learn
from attention_core.estimators.model import Model
from attention_core.estimators.rows import Rows, Units, equal_rows
from attention_core.typing import Array

__all__ = ["AttentionEstimator"]

_NESTED = ("scorer", "normalizer")
# Factors on the deviation of all features before learning; larger ones sharpen attention.
_LENGTHS: tuple[float, ...] = (1.0, 2.0, 4.0)


class AttentionEstimator(BaseEstimator):  # type: ignore[misc]  # has no types
    """Rows attend to the training rows: ``c(x) = sum_j softmax_j(score(x, x_j)) v_j``.

    The parameters are those of `AttentionClassifier` and `AttentionRegressor`.
    """

    _model: type[Model]

    @checked_arguments
    def __init__(
        self,
        scorer: str | Mapping[str, Any] | Scorer = "gaussian",
        *,
        normalizer: str | Mapping[str, Any] | Normalizer = "softmax",
        fit_scorer: bool = True,
        trend: bool = True,
        standardize: bool = True,
        alpha: float = 1.0,
        max_iter: int = 100,
        tol: float = 1e-4,
        batch_size: int = 2000,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        workers: int | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.scorer = scorer
        self.normalizer = normalizer
        self.fit_scorer = fit_scorer
        self.trend = trend
        self.standardize = standardize
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.workers = workers
        self.verbose = verbose
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep` also those of components, such as ``scorer__rank``."""
        params: dict[str, Any] = super().get_params(deep=False)
        for kind in _NESTED if deep else ():
            own = params[kind]
            if isinstance(own, Mapping):
                params |= {f"{kind}__{name}": own[name] for name in own if name != "name"}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``scorer__hidden_dim=64`` sets one of the scorer's."""
        nested: dict[str, dict[str, Any]] = {}
        for name in list(params):
            kind, _, own = name.partition("__")
            if own and kind in _NESTED:
                nested.setdefault(kind, {})[own] = params.pop(name)
        super().set_params(**params)
        for kind, given in nested.items():
            component = getattr(self, kind)
            described = {"name": component} if isinstance(component, str) else component
            if not isinstance(described, Mapping):
                raise OptionTypeError(
                    f"{kind}__{min(given)} sets a parameter of a {kind} that is given by name or "
                    f"as a mapping; {kind} is {shown(component)}"
                )
            setattr(self, kind, {**described, **given})
        return self

    def attend(self, X: ArrayLike) -> AttentionResult:
        """Attend to the training rows, which are the keys of the result, in their order.

        Rows with a sample weight of 0 are not keys.

        Parameters
        ----------
        X : (n, D)

        Returns
        -------
        AttentionResult
            With `weights`, the strongest training rows as ``top_k(n)``, and more.
        """
        return self._attend(self._queries(X))

    def _queries(self, X: ArrayLike) -> Array:
        """Rows (n, D), standardized like the keys and in their dtype."""
        check_is_fitted(self)
        check_unmasked(X=X)
        queries = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        # float32 rows would only be copied for float64 keys
        return self._units.measured(queries.astype(self.memory_.dtype, copy=False))

    def _attend(self, queries: Array) -> AttentionResult:
        return self._attention()(queries, self.memory_, bias=self._bias)

    def _attention(self) -> Attention:
        return Attention(self.scorer_, normalizer=self.normalizer, workers=self.workers)

    def _sample_weight(self, sample_weight: ArrayLike | None, key: Array) -> Array:
        """Weights of the rows: (n,), at least one of which is positive."""
        check_unmasked(sample_weight=sample_weight)
        weight: Array = _check_sample_weight(
            sample_weight, key, dtype=np.float64, ensure_non_negative=True
        )
        if not weight.any():
            raise OptionError("sample_weight must be positive for some rows, got 0 for all")
        return weight

    def _relevance(self, rows: Rows) -> Array | float:
        """Factors by which standardized features are scaled."""
        return 1.0

    def _keep(self, rows: Rows) -> None:
        """Learn the model; keep rows as keys and values."""
        self._check_options()
        random_state = check_random_state(self.random_state)
        features = rows.key.shape[1]
        scorer, is_filled_in = initial_scorer(self.scorer, features, random_state)
        coefficients = np.zeros((features, rows.value.shape[1])) if self.trend else None
        model = self._model(scorer, coefficients if self.fit_scorer else None, self.normalizer)
        given, rows = rows.key, Rows(rows.key, rows.value, rows.weight, equal_rows(rows.key))
        units, lengths = Units.of(features), _LENGTHS[:1]
        if self.standardize:
            units = Units.standardizing(given, rows.weight)
            rows = rows.with_key(units.measured(given))
            if self.fit_scorer and is_filled_in:
                units, lengths = units.times(self._relevance(rows)), _LENGTHS
                rows = rows.with_key(units.measured(given))
        found = Learned(model, 1.0)
        if self.fit_scorer:
            found = learn(model, rows, lengths, self._settings(), random_state)
        self.scorer_, self.trend_ = found.model.scorer, found.model.coefficients
        self.n_iter_ = found.n_iter
        self.loss_curve_ = list(found.losses)
        self.validation_losses_ = list(found.validation_losses)
        self._units = units.times(found.length)
        self._weight, self._bias = rows.weight, rows.bias
        rows = rows.with_key(self._units.measured(given))
        self.memory_ = Attention(self.scorer_).memory(rows.key, found.model.values(rows))
        if not found.is_converged:
            warnings.warn(
                f"learning did not converge in max_iter={self.max_iter} iterations; raise "
                f"max_iter, or raise tol={self.tol} or alpha={self.alpha}",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _settings(self) -> Settings:
        return Settings(
            max_iter=self.max_iter,
            tol=self.tol,
            alpha=self.alpha,
            batch_size=self.batch_size,
            validation_fraction=self.validation_fraction if self.early_stopping else None,
            n_iter_no_change=self.n_iter_no_change,
            workers=self.workers,
            progress=bool(self.verbose),
        )

    def _check_options(self) -> None:
        """Raise for invalid options, used or not, as scikit-learn's estimators do."""
        check_count("max_iter", self.max_iter)
        check_amount("tol", self.tol)
        check_amount("alpha", self.alpha)
        check_count("batch_size", self.batch_size)
        check_fraction("validation_fraction", self.validation_fraction)
        check_count("n_iter_no_change", self.n_iter_no_change)
        for flag in ("fit_scorer", "trend", "standardize", "early_stopping"):
            check_flag(flag, getattr(self, flag))
