"""Estimators whose rows attend with normalizers other than softmax."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

import attention_core as ac
from attention_core.estimators import AttentionClassifier, AttentionRegressor


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.mark.parametrize("trend", [True, False])
@pytest.mark.parametrize(
    "normalizer",
    ["sparsemax", {"name": "entmax", "alpha": 1.3}, "sigmoid", ac.Softmax(sink=0.5)],
    ids=str,
)
def test_classifiers_learn_with_any(iris, normalizer, trend):
    X, y = iris
    model = AttentionClassifier(normalizer=normalizer, trend=trend, random_state=0, max_iter=300)
    model.fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    attention = ac.Attention(model.scorer_, normalizer=normalizer)
    expected = attention(model.memory_.given_key[:3], model.memory_).weights
    np.testing.assert_allclose(model.attend(X[:6:2]).weights, expected, atol=1e-12)


def test_regressors_average_few_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = np.tanh(2 * X[:, 0])
    model = AttentionRegressor(normalizer="entmax").fit(X[:150], y[:150])
    assert model.score(X[150:], y[150:]) > 0.95
    weights = model.attend(X[150:]).weights
    assert (weights == 0).mean() > 0.5
    mean, std = model.predict(X[150:], return_std=True)
    assert mean.shape == std.shape == (50,)


def test_parameters_are_those_of_scikit_learn(iris):
    model = AttentionClassifier("dot", normalizer={"name": "entmax", "alpha": 1.3})
    assert model.get_params()["normalizer__alpha"] == 1.3
    again = clone(model).set_params(normalizer__alpha=1.7, alpha=2.0)
    assert again.normalizer == {"name": "entmax", "alpha": 1.7}
    assert model.normalizer == {"name": "entmax", "alpha": 1.3}
    assert again.alpha == 2.0
    assert AttentionClassifier().set_params(normalizer="sparsemax").normalizer == "sparsemax"
    search = GridSearchCV(
        AttentionClassifier(normalizer="entmax", max_iter=5, tol=0.5),
        {"normalizer__alpha": [1.2, 2.0]},
        cv=2,
    )
    assert search.fit(*iris).best_params_["normalizer__alpha"] in (1.2, 2.0)
    with pytest.raises(ac.OptionTypeError, match="normalizer__alpha sets a parameter of a norm"):
        AttentionClassifier(normalizer=ac.Softmax()).set_params(normalizer__alpha=1.2)
    with pytest.raises(ac.UnknownScorerError, match="no normalizer named 'sofmax'"):
        AttentionClassifier(normalizer="sofmax").fit(*iris)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [AttentionClassifier, AttentionRegressor])
def test_scikit_learns_checks_pass_with_sparsemax(estimator):
    check_estimator(
        estimator(normalizer="sparsemax"),
        on_skip=None,
        expected_failed_checks={
            "check_sample_weight_equivalence_on_dense_data": "weights are added to the scores",
        },
    )
