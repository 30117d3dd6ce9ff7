"""Classification: the labels of the training rows, weighted by attention."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from attention_core.estimators.base import AttentionEstimator
from attention_core.leave_one_out import log_loss
from attention_core.typing import Array

__all__ = ["AttentionClassifier"]


class AttentionClassifier(ClassifierMixin, AttentionEstimator):  # type: ignore[misc]
    """A classifier that attends to its training rows.

        p(label | x) = sum_j softmax_j(score(x, x_j)) [y_j = label]

    The scorer's parameters are learned by leaving one row out: each row is predicted from all
    others, and the log loss of these predictions is minimized with L-BFGS-B.

    Parameters
    ----------
    scorer
        A name, a mapping of a name and parameters, or a `Scorer`: where learning starts.
        Dimensions and a seed that a learned scorer needs are filled in (32 hidden units).
    fit_scorer
        Whether to learn the scorer's parameters; scorers without any are used as they are.
    max_iter
        Iterations of L-BFGS-B, at most.
    tol
        Stop when an iteration improves the loss by less than this fraction.
    penalty
        Adds ``penalty * |p - start|^2`` for the vector p of all parameters to the loss.
    batch_size
        With more rows than this, ten iterations at a time are made on so many rows drawn at
        random, predicted from all rows; time is then linear in the rows.
    early_stopping
        Whether to leave some rows out of learning and keep the parameters that predict these
        best, stopping after `n_iter_no_change` iterations without a better prediction. They are
        keys again when learning is over.
    validation_fraction
        The share of these rows, between 0 and 1.
    n_iter_no_change
        See `early_stopping`.
    workers
        How many threads to use on large calls; every core when left out.
    verbose
        1 shows a progress bar.
    random_state
        For first values, batches and the rows left out.

    Attributes
    ----------
    classes_ : (classes,)
        The labels.
    scorer_
        The scorer, learned.
    memory_
        Keys and values: the training rows and their labels, one-hot.
    n_iter_, loss_curve_, validation_losses_
        How many iterations were made, the losses with the penalty at the start and after each, and
        those on the rows left out. `n_iter_` is 1 also where nothing was learned: scikit-learn
        allows no 0.

    Notes
    -----
    Scores depend on the scale of the features: put a `StandardScaler` before it. With scores
    ``-|A x - A x_j|^2`` prediction would be Nadaraya-Watson regression under a Gaussian kernel, and
    learning A neighbourhood components analysis. ``general`` is its bilinear part, without the
    norms: it prefers long keys, so give it rows of similar norms. ``additive`` can tell near from
    far. Predicting takes memory for the training rows, not for the weights between them and the
    rows to predict.

    References
    ----------
    Nadaraya 1964, doi:10.1137/1109020. Watson 1964, "Smooth regression analysis", Sankhya A 26.
    Goldberger, Roweis, Hinton and Salakhutdinov 2004, "Neighbourhood components analysis",
    NeurIPS 17.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from attention_core.estimators import AttentionClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), AttentionClassifier(random_state=0))
    >>> model.fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Keep the rows X (n, D) with their labels y (n,), and learn the scorer."""
        key, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        value = np.eye(len(self.classes_), dtype=key.dtype)[codes]  # (n, classes)
        return self._keep(key, value, log_loss)

    def predict_proba(self, X: ArrayLike) -> Array:
        """The weight that falls on each label: (n, classes)."""
        return self.attend(X).context

    def predict(self, X: ArrayLike) -> Array:
        """The label on which most weight falls: (n,)."""
        share = self.predict_proba(X)
        labels: Array = self.classes_[share.argmax(axis=1)]
        return labels
