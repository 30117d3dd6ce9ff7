"""Classification: the labels of the training rows, weighted by attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from attention_core import Normalizer, Scorer
from attention_core.arguments import checked_arguments
from attention_core.arrays.inputs import check_unmasked
from attention_core.estimators.base import AttentionEstimator
from attention_core.estimators.model import Classification
from attention_core.estimators.rows import Rows, relevance
from attention_core.typing import Array

__all__ = ["AttentionClassifier"]


class AttentionClassifier(ClassifierMixin, AttentionEstimator):  # type: ignore[misc]  # has no types
    """A classifier that attends to its training rows.

        p(c | x) ~ exp(b_c . x) sum_j softmax_j(score(x, x_j)) [y_j = c]

    The parameters of the scorer and the trend b are learned by leaving one row out: each row is
    predicted from all others, and the log loss of these predictions is minimized with L-BFGS-B.
    Without a trend, the probability of a label is its share of the weights.

    Parameters
    ----------
    scorer
        The start of learning: a name, a mapping of a name and parameters, or a `Scorer`.
        Dimensions and a seed that a learned scorer needs are filled in (32 hidden units).
    normalizer
        A name, a mapping of a name and parameters, or a `Normalizer`; ``"entmax"`` gives weight to
        few training rows. With normalizers other than softmax, a `sample_weight` of 2 only
        approximates the same row twice.
    fit_scorer
        Whether to learn; if not, the scorer is used unchanged, without a trend.
    trend
        Whether to learn a trend that is linear in the features. Attention alone averages, so it
        flattens trends and cannot extrapolate.
    standardize
        Whether to measure features in units of their deviation, so that their scale does not
        matter. If the initial values of the scorer are filled in, features that separate the
        classes are also scaled up, and all features by 1, 2 or 4, whichever has the lowest loss.
    alpha
        The strength of the penalty: ``alpha / n * |p - start|^2`` for the vector p of all
        parameters and n rows is added to the mean loss.
    class_weight
        Weights of the classes: a mapping of labels, or "balanced" for weights that compensate
        different frequencies. They multiply `sample_weight`.
    max_iter
        Maximum of iterations of L-BFGS-B.
    tol
        Stop when an iteration improves the loss by less than this fraction.
    batch_size
        With more rows than this, each batch of up to ten iterations uses this many random rows,
        predicted from all rows, until the first losses of new batches no longer improve. Time is
        then linear in the number of rows.
    early_stopping
        Whether to hold out some rows and keep the parameters that predict them best, stopping after
        `n_iter_no_change` iterations without improvement. These rows are keys after learning.
    validation_fraction
        The fraction of rows to hold out, between 0 and 1.
    n_iter_no_change
        See `early_stopping`.
    workers
        Number of threads for large calls; every core by default.
    verbose
        1 shows the progress of learning on stderr.
    random_state
        Random state for initial values, batches and held-out rows.

    Attributes
    ----------
    classes_ : (classes,)
        The labels.
    scorer_
        The learned scorer, for standardized rows like the keys of `memory_`.
    trend_ : (D, classes)
        The trend b for standardized rows; None without one.
    memory_
        Keys and values: the training rows and their labels, one-hot.
    n_iter_, loss_curve_, validation_losses_
        The number of iterations, the losses with the penalty at the start and after each iteration,
        and those on held-out rows. `n_iter_` is 1 even if nothing was learned, since scikit-learn
        does not allow 0.

    Warns
    -----
    ConvergenceWarning
        If learning ended at `max_iter`.

    Notes
    -----
    With the default scorer, ``-sum_d (a_d (x_d - x_jd))^2``, the sum is Nadaraya-Watson regression
    under a Gaussian kernel, and learning its scales is neighborhood components analysis with a
    diagonal matrix. Rows that are equal in every feature are left out together; otherwise copies
    would predict each other. Predicting needs memory for the training rows, but not for the weights
    between them and the predicted rows.

    References
    ----------
    Nadaraya 1964, doi:10.1137/1109020. Watson 1964, "Smooth regression analysis", Sankhya A 26.
    Goldberger, Roweis, Hinton and Salakhutdinov 2004, "Neighbourhood components analysis",
    NeurIPS 17.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from attention_core.estimators import AttentionClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = AttentionClassifier().fit(X[::2], y[::2])
    >>> model.score(X[1::2], y[1::2]) > 0.95
    True
    """

    _model = Classification

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
        class_weight: Mapping[Any, float] | str | None = None,
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
        super().__init__(
            scorer,
            normalizer=normalizer,
            fit_scorer=fit_scorer,
            trend=trend,
            standardize=standardize,
            alpha=alpha,
            max_iter=max_iter,
            tol=tol,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            workers=workers,
            verbose=verbose,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Store the rows X (n, D) with their labels y (n,), and learn the scorer.

        `sample_weight` (n,) is how often each row counts: 2 is equivalent to the row twice, 0 to
        removing it. It is multiplied by `class_weight`.
        """
        check_unmasked(X=X, y=y)
        key, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        weight = self._sample_weight(sample_weight, key)
        weight = weight * compute_sample_weight(self.class_weight, labels)
        key, labels, kept = key[weight > 0], labels[weight > 0], weight[weight > 0]
        self.classes_, codes = np.unique(labels, return_inverse=True)
        value = np.eye(len(self.classes_), dtype=key.dtype)[codes]  # (n, classes)
        self._keep(Rows(key, value, kept if (kept != 1).any() else None))
        return self

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """The logarithms of `predict_proba`: (n, classes)."""
        queries = self._queries(X)
        model = Classification(self.scorer_, self.trend_)
        return model.log_proba(queries, self._attend(queries).context)

    def predict_proba(self, X: ArrayLike) -> Array:
        """The probability of each label: (n, classes)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> Array:
        """The most probable label: (n,)."""
        best = self.predict_log_proba(X).argmax(axis=1)  # (n,)
        labels: Array = self.classes_[best]
        return labels

    def _relevance(self, rows: Rows) -> Array:
        return relevance(rows.key, rows.value, rows.weight)
