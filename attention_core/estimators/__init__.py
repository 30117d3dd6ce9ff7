"""Attention as estimators in scikit-learn's conventions (extra ``sklearn``).

Fitting stores the training rows as keys and their labels or targets as values; predicting attends
to them. The scorer is an ordinary parameter, so a grid search can choose it.
"""

try:
    import sklearn as _sklearn  # noqa: F401 - the modules below need it
except ImportError as error:
    from attention_core.errors import MissingExtraError

    raise MissingExtraError(
        "attention_core.estimators needs scikit-learn: pip install 'attention-core[sklearn]'"
    ) from error

from attention_core.estimators.classifier import AttentionClassifier
from attention_core.estimators.regressor import AttentionRegressor

__all__ = ["AttentionClassifier", "AttentionRegressor"]
