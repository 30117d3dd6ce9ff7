"""The table behind the defaults of the estimators: ``python -m benchmarks.estimator_defaults``.

Five-fold cross-validation (three-fold on digits, whose folds are large) on data that scikit-learn
ships or generates. Everything, including standardization, is fitted to the training folds alone.
Prints the table of docs/how-to/learn-a-scorer.md: R2 for targets, accuracy for classes. ``--write``
puts it into that page. It takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_friedman1,
    make_friedman2,
    make_moons,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from attention_core.estimators import AttentionClassifier, AttentionRegressor

PAGE = Path(__file__).parents[1] / "docs/how-to/learn-a-scorer.md"

Data = tuple[np.ndarray, np.ndarray]
TARGETS: dict[str, Callable[[], Data]] = {
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "friedman1": lambda: make_friedman1(600, n_features=20, noise=1.0, random_state=0),
    "friedman2": lambda: make_friedman2(600, noise=100.0, random_state=0),
}
CLASSES: dict[str, Callable[[], Data]] = {
    "wine": lambda: load_wine(return_X_y=True),
    "iris": lambda: load_iris(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": lambda: load_digits(return_X_y=True),
    "moons": lambda: make_moons(600, noise=0.25, random_state=0),
}
CHOICES: dict[str, dict[str, Any]] = {
    **{f"gaussian, alpha {alpha:g}": {"alpha": alpha} for alpha in (0.1, 0.3, 1.0, 3.0, 10.0)},
    "gaussian, no trend": {"trend": False},
    "gaussian, early stopping": {"early_stopping": True},
    "general": {"scorer": "general"},
    "additive": {"scorer": "additive"},
}
OTHERS: dict[str, tuple[Callable[[], BaseEstimator], Callable[[], BaseEstimator]]] = {
    "ridge, logistic regression": (RidgeCV, lambda: LogisticRegression(max_iter=1000)),
    "nearest neighbors": (KNeighborsRegressor, KNeighborsClassifier),
    "support vectors": (
        lambda: TransformedTargetRegressor(SVR(), transformer=StandardScaler()),
        SVC,
    ),
}


def models() -> Iterator[tuple[str, BaseEstimator, BaseEstimator]]:
    """Each row of the table: its name, a regressor and a classifier."""
    for name, options in CHOICES.items():
        options = {"random_state": 0, **options}
        yield name, AttentionRegressor(**options), AttentionClassifier(**options)
    for name, (regressor, classifier) in OTHERS.items():
        yield (
            name,
            make_pipeline(StandardScaler(), regressor()),
            make_pipeline(StandardScaler(), classifier()),
        )


def score(model: BaseEstimator, name: str, data: Data) -> float:
    folds = 3 if name == "digits" else 5
    kind = KFold if is_regressor(model) else StratifiedKFold
    cv = kind(folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of slow scorers
        return float(cross_val_score(model, *data, cv=cv).mean())


def table() -> str:
    columns = [*TARGETS, *CLASSES]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, regressor, classifier in models():
        scores = [score(regressor, each, load()) for each, load in TARGETS.items()]
        scores += [score(classifier, each, load()) for each, load in CLASSES.items()]
        lines.append(f"| {name} | {' | '.join(f'{each:.3f}' for each in scores)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    write = parser.parse_args().write
    found = table()
    if write:
        marked = r"(<!-- estimator defaults -->\n).*?(\n<!-- end -->)"
        page, count = re.subn(marked, rf"\1\n{found}\n\2", PAGE.read_text(), flags=re.DOTALL)
        assert count == 1, f"{PAGE} lacks the markers of the table"
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
