"""Attention as scikit-learn estimators."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import attention_core as ac
from attention_core.estimators import AttentionClassifier, AttentionRegressor
from attention_core.estimators import learning as learning_module
from attention_core.leave_one_out import leave_one_out, log_loss

SCORERS = ["dot", "scaled_dot", "general", "additive"]


@parametrize_with_checks(
    [
        AttentionClassifier(max_iter=30),
        AttentionRegressor(max_iter=30),
        AttentionClassifier("dot"),  # has nothing to learn
        AttentionRegressor("dot"),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def blobs():
    X, codes = make_blobs(200, centers=4, n_features=3, cluster_std=1.5, random_state=3)
    return StandardScaler().fit_transform(X), np.array(["ape", "bee", "cat", "doe"])[codes]


@pytest.fixture(scope="module")
def wave():
    X = np.random.default_rng(5).normal(size=(300, 3))
    return X, 100 + np.tanh(2 * X[:, 1])


# --- what is learned ---


@pytest.mark.parametrize("scorer", ["general", "additive"])
def test_a_learned_scorer_predicts_better(blobs, scorer):
    X, y = blobs
    before, after = (
        AttentionClassifier(scorer, fit_scorer=learn, random_state=0).fit(X[::2], y[::2])
        for learn in (False, True)
    )
    assert before.n_iter_ == 1  # for scikit-learn
    assert before.loss_curve_ == []
    assert after.n_iter_ == len(after.loss_curve_) - 1 > 0
    assert after.loss_curve_[-1] < 0.5 * after.loss_curve_[0]
    assert after.score(X[1::2], y[1::2]) > 0.9 > before.score(X[1::2], y[1::2])


@pytest.mark.parametrize("scorer", ["general", "additive"])
def test_a_learned_scorer_regresses_better(wave, scorer):
    X, y = wave
    before, after = (
        AttentionRegressor(scorer, fit_scorer=learn, random_state=0).fit(X[:200], y[:200])
        for learn in (False, True)
    )
    assert before.score(X[200:], y[200:]) < 0.5
    assert after.score(X[200:], y[200:]) > 0.85


def test_the_loss_is_that_of_leaving_one_out(blobs):
    X, y = blobs
    model = AttentionClassifier(max_iter=5, penalty=0, random_state=0).fit(X, y)
    value = (model.classes_ == y[:, None]).astype(float)
    loss, _ = leave_one_out(X, value, log_loss)(model.scorer_)
    assert loss == pytest.approx(model.loss_curve_[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [AttentionClassifier, AttentionRegressor])
def test_dtypes_are_kept(blobs, kind, dtype):
    X, y = blobs
    targets = y if kind is AttentionClassifier else X[:, 0]
    model = kind(max_iter=5, random_state=0).fit(X.astype(dtype), targets)
    assert model.attend(X.astype(dtype)).context.dtype == dtype
    assert model.attend(X).context.dtype == dtype


def test_a_regressor_of_large_targets_loses_no_digits(wave):
    X, y = wave
    model = AttentionRegressor("dot").fit(X.astype(np.float32), 1e6 + y)
    exact = AttentionRegressor("dot").fit(X, y)
    np.testing.assert_allclose(model.memory_.value, exact.memory_.value, atol=1e-5)


def test_several_targets(wave):
    X, y = wave
    both = AttentionRegressor("dot").fit(X, np.stack([y, -2 * y], axis=1)).predict(X)
    assert both.shape == (300, 2)
    np.testing.assert_allclose(both[:, 1], -2 * both[:, 0])
    np.testing.assert_allclose(both[:, 0], AttentionRegressor("dot").fit(X, y).predict(X))


def test_losses_are_shares_of_the_variance_of_any_number_of_targets(rng):
    X, y = rng.normal(size=(100, 2)), 7 * rng.normal(size=(100, 5))
    even = {"name": "general", "weight": np.zeros((2, 2))}
    model = AttentionRegressor(even, max_iter=1).fit(X, y)
    assert model.loss_curve_[0] == pytest.approx((100 / 99) ** 2)  # means of the 99 others


def test_a_target_that_is_given_twice_is_learned_as_one(wave):
    X, y = wave
    once, twice = (
        AttentionRegressor(penalty=0.1, max_iter=5, random_state=0).fit(X, targets).loss_curve_
        for targets in (y, np.stack([y, y], axis=1))
    )
    np.testing.assert_allclose(twice, once)


def test_rows_say_which_training_rows_they_attend_to(blobs):
    X, y = blobs
    model = AttentionClassifier({"name": "general", "weight": 20 * np.eye(3)}, fit_scorer=False)
    top = model.fit(X, y).attend(X[:5]).top_k(3)
    assert top.indices.shape == (5, 3)
    np.testing.assert_allclose(
        model.predict_proba(X[:5]),
        ac.attend(X[:5], X, model.memory_.value, scorer=model.scorer_).context,
    )


# --- where learning starts ---


@pytest.mark.parametrize(
    ("scorer", "shapes"),
    [
        ("bilinear", {"weight": (3, 3)}),
        ({"name": "general", "rank": 2}, {"query_factor": (3, 2), "key_factor": (3, 2)}),
        (
            {"name": "additive", "hidden_dim": 5},
            {"query_weight": (3, 5), "key_weight": (3, 5), "score_weight": (5,)},
        ),
        ({"name": "general", "weight": np.eye(3)}, {"weight": (3, 3)}),
        (ac.make_scorer("general", weight=np.eye(3)), {"weight": (3, 3)}),
        ("scaled_dot", {}),
    ],
)
def test_what_a_scorer_leaves_out_is_filled_in(blobs, scorer, shapes):
    model = AttentionClassifier(scorer, max_iter=2, random_state=0).fit(*blobs)
    found = {name: array.shape for name, array in model.scorer_.parameters.items()}
    assert found == shapes


def test_the_seed_decides(blobs):
    X, y = blobs
    fits = [
        AttentionClassifier("additive", max_iter=3, batch_size=50, random_state=seed).fit(X, y)
        for seed in (1, 1, 2)
    ]
    first, second, third = (fit.scorer_.parameter_vector for fit in fits)
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, third)


@pytest.mark.parametrize(
    ("scorer", "error"),
    [
        ("scaled_dto", ac.UnknownScorerError),
        ({"name": "general", "wight": 1}, ac.ScorerConfigError),
        ({"rank": 3}, ac.ScorerConfigError),
        ({"name": "scaled_dot", "scale": "big"}, ac.ScorerConfigError),
        (3, ac.OptionTypeError),
    ],
)
def test_scorers_that_cannot_be_made(blobs, scorer, error):
    with pytest.raises(error):
        AttentionClassifier(scorer).fit(*blobs)


COUNT = "an integer of at least 1"
AMOUNT = "a finite number of at least 0"
SHARE = "a number between 0 and 1"


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"fit_scorer": False}])
@pytest.mark.parametrize(
    ("name", "value", "error", "expected"),
    [
        ("max_iter", 0, ac.OptionError, COUNT),
        ("tol", -1.0, ac.OptionError, AMOUNT),
        ("penalty", "small", ac.OptionTypeError, AMOUNT),
        ("batch_size", 0, ac.OptionError, COUNT),
        ("batch_size", -5, ac.OptionError, COUNT),
        ("batch_size", 50.0, ac.OptionTypeError, COUNT),
        ("validation_fraction", 1, ac.OptionError, SHARE),
        ("validation_fraction", 1.5, ac.OptionError, SHARE),
        ("validation_fraction", 0, ac.OptionError, SHARE),
        ("validation_fraction", -0.1, ac.OptionError, SHARE),
        ("validation_fraction", np.nan, ac.OptionError, SHARE),
        ("validation_fraction", None, ac.OptionTypeError, SHARE),
        ("n_iter_no_change", 0, ac.OptionError, COUNT),
    ],
)
def test_impossible_options(blobs, options, name, value, error, expected):
    with pytest.raises(error) as raised:
        AttentionClassifier(**options, **{name: value}).fit(*blobs)
    assert isinstance(raised.value, ValueError)
    assert str(raised.value) == f"{name} must be {expected}, got {value!r}"


def test_a_fraction_that_leaves_nothing_to_learn_from(blobs):
    X, y = blobs
    with pytest.raises(ac.OptionError) as error:
        AttentionClassifier(early_stopping=True, validation_fraction=0.8).fit(X[:7], y[:7])
    assert str(error.value) == (
        "n_samples = 7 leaves 1 to learn from at validation_fraction=0.8, and it takes 2: "
        "give more rows, a smaller fraction, or early_stopping=False"
    )


def test_a_scorer_that_is_as_good_as_it_gets(blobs):
    model = AttentionClassifier(tol=1e9, random_state=0).fit(*blobs)
    assert len(model.loss_curve_) == 1
    assert model.n_iter_ == 1  # for scikit-learn


# --- large data ---


def test_batches_visit_every_row_before_any_row_twice(monkeypatch):
    seen = []
    monkeypatch.setattr(
        learning_module, "leave_one_out", lambda *_, rows, workers: seen.append(rows)
    )
    batches = learning_module.Batches(
        np.zeros((10, 1)),
        np.zeros((10, 1)),
        log_loss,
        size=5,
        count=4,
        random_state=np.random.RandomState(0),
        workers=None,
    )
    assert len(list(batches)) == len(batches) == 4
    for first in (0, 2):
        assert sorted(np.concatenate(seen[first : first + 2])) == list(range(10))
    assert not np.array_equal(seen[0], seen[2])


def test_batches_learn_too(blobs):
    X, y = blobs
    model = AttentionClassifier(batch_size=40, max_iter=50, random_state=0).fit(X[::2], y[::2])
    assert 5 < model.n_iter_ <= 50
    assert model.score(X[1::2], y[1::2]) > 0.9


def test_early_stopping_keeps_the_best_of_the_rows_left_out(wave):
    X, y = wave
    noisy = y + np.random.default_rng(0).normal(size=300)
    model = AttentionRegressor(
        "additive", early_stopping=True, n_iter_no_change=3, tol=0, max_iter=200, random_state=0
    ).fit(X, noisy)
    losses = model.validation_losses_
    assert len(losses) == model.n_iter_ + 1 < 201
    assert losses.index(min(losses)) == len(losses) - 4
    assert len(model.memory_) == 300  # all rows are keys in the end


@pytest.mark.parametrize(
    ("rows", "queries"),
    [(20_000, 5_000), pytest.param(100_000, 10_000, marks=pytest.mark.slow)],
)
def test_predicting_takes_bounded_memory(rng, rows, queries):
    X = rng.normal(size=(rows, 8)).astype(np.float32)
    model = AttentionClassifier({"name": "general", "weight": np.eye(8)}, fit_scorer=False)
    model.fit(X, X[:, 0] > 0)
    tracemalloc.start()
    try:
        predicted = model.predict(X[:queries])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (predicted == (X[:queries, 0] > 0)).mean() > 0.9
    assert peak < 32e6 < 4 * rows * queries / 10  # a tenth of the weights


@pytest.mark.slow
def test_learning_from_100_000_rows_takes_bounded_memory(rng):
    X = rng.normal(size=(100_000, 8)).astype(np.float32)
    tracemalloc.start()
    try:
        model = AttentionClassifier(batch_size=200, max_iter=20, random_state=0)
        model.fit(X, X[:, 0] > 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert model.score(X[:1000], X[:1000, 0] > 0) > 0.95
    assert peak < 128e6


# --- among other estimators ---


def test_a_grid_search_chooses_the_scorer(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), AttentionClassifier(max_iter=20, random_state=0))
    search = GridSearchCV(pipeline, {"attentionclassifier__scorer": SCORERS}, cv=3).fit(X, y)
    assert search.best_params_["attentionclassifier__scorer"] in ("general", "additive")
    assert search.best_score_ > 0.9


def test_clones_and_pickles(blobs):
    X, y = blobs
    scorer = ac.make_scorer("general", weight=np.eye(3))
    model = AttentionClassifier(scorer, max_iter=3).fit(X, y)
    assert clone(model).fit(X, y).score(X, y) == model.score(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_without_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from attention_core import MissingExtraError\n"
        "try:\n    import attention_core.estimators\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == (
        "attention_core.estimators needs scikit-learn: pip install 'attention-core[sklearn]'\n"
    )
