"""Attention as scikit-learn estimators."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import attention_core as ac
from attention_core.estimators import AttentionClassifier, AttentionRegressor
from attention_core.estimators import learning as learning_module
from attention_core.estimators.model import Regression
from attention_core.estimators.rows import Rows
from attention_core.leave_one_out import leave_one_out, log_loss, squared_error

SCORERS = ["dot", "scaled_dot", "general", "additive", "gaussian"]

# a few iterations are enough for these tests
capped = pytest.mark.filterwarnings("ignore:learning did not converge")


@capped
@parametrize_with_checks(
    [
        AttentionClassifier(),
        AttentionRegressor(),
        AttentionClassifier("dot", trend=False),  # has nothing to learn
        AttentionRegressor("dot", trend=False),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@capped
@pytest.mark.slow
@parametrize_with_checks(
    [
        AttentionClassifier("additive", max_iter=30),
        AttentionRegressor({"name": "general", "rank": 1}, max_iter=30),
    ]
)
def test_scikit_learn_conventions_with_other_scorers(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def blobs():
    X, codes = make_blobs(200, centers=4, n_features=3, cluster_std=1.5, random_state=3)
    return StandardScaler().fit_transform(X), np.array(["ape", "bee", "cat", "doe"])[codes]


@pytest.fixture(scope="module")
def wave():
    X = np.random.default_rng(5).normal(size=(300, 3))
    return X, 100 + np.tanh(2 * X[:, 1])


# --- learning ---


@pytest.mark.parametrize("scorer", ["general", "additive", "gaussian"])
def test_a_learned_scorer_predicts_better(blobs, scorer):
    X, y = blobs
    before, after = (
        AttentionClassifier(scorer, fit_scorer=learn, trend=False, tol=1e-3, random_state=0).fit(
            X[::2], y[::2]
        )
        for learn in (False, True)
    )
    assert before.n_iter_ == 1  # for scikit-learn
    assert before.loss_curve_ == []
    assert after.n_iter_ == len(after.loss_curve_) - 1 > 0
    assert after.loss_curve_[-1] < after.loss_curve_[0]
    assert after.score(X[1::2], y[1::2]) > 0.9
    assert after.score(X[1::2], y[1::2]) >= before.score(X[1::2], y[1::2])


@pytest.mark.parametrize("scorer", ["general", "additive", "gaussian"])
def test_a_learned_scorer_regresses_better(wave, scorer):
    X, y = wave
    before, after = (
        AttentionRegressor(scorer, fit_scorer=learn, trend=False, tol=1e-3, random_state=0).fit(
            X[:200], y[:200]
        )
        for learn in (False, True)
    )
    assert before.score(X[200:], y[200:]) < 0.5
    assert after.score(X[200:], y[200:]) > 0.85


@capped
def test_the_loss_is_that_of_leaving_one_out(blobs):
    X, y = blobs
    model = AttentionClassifier(max_iter=5, alpha=0, trend=False).fit(X, y)
    value = (model.classes_ == y[:, None]).astype(float)
    loss, _ = leave_one_out(model.memory_.given_key, value, log_loss)(model.scorer_)
    assert loss == pytest.approx(model.loss_curve_[-1])


@capped
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
    model = AttentionRegressor("dot", trend=False).fit(X.astype(np.float32), 1e6 + y)
    exact = AttentionRegressor("dot", trend=False).fit(X, y)
    np.testing.assert_allclose(model.memory_.value, exact.memory_.value, atol=1e-5)


def test_several_targets(wave):
    X, y = wave
    both = AttentionRegressor("dot", trend=False).fit(X, np.stack([y, -2 * y], axis=1)).predict(X)
    assert both.shape == (300, 2)
    np.testing.assert_allclose(both[:, 1], -2 * both[:, 0])
    np.testing.assert_allclose(
        both[:, 0], AttentionRegressor("dot", trend=False).fit(X, y).predict(X)
    )


@capped
def test_losses_are_shares_of_the_variance_of_any_number_of_targets(rng):
    X, y = rng.normal(size=(100, 2)), 7 * rng.normal(size=(100, 5))
    even = {"name": "general", "weight": np.zeros((2, 2))}
    model = AttentionRegressor(even, trend=False, max_iter=1).fit(X, y)
    assert model.loss_curve_[0] == pytest.approx((100 / 99) ** 2)  # means of the 99 others


@capped
def test_a_target_that_is_given_twice_is_learned_as_one(wave):
    X, y = wave
    once, twice = (
        AttentionRegressor(max_iter=5, random_state=0).fit(X, targets).loss_curve_
        for targets in (y, np.stack([y, y], axis=1))
    )
    np.testing.assert_allclose(twice, once)


def test_rows_say_which_training_rows_they_attend_to(blobs):
    X, y = blobs
    given = {"name": "general", "weight": 20 * np.eye(3)}
    model = AttentionClassifier(given, fit_scorer=False, standardize=False)
    top = model.fit(X, y).attend(X[:5]).top_k(3)
    assert top.indices.shape == (5, 3)
    np.testing.assert_allclose(
        model.predict_proba(X[:5]),
        ac.attend(X[:5], X, model.memory_.value, scorer=model.scorer_).context,
    )


# --- the trend ---


def test_a_trend_goes_beyond_the_training_rows(rng):
    X = rng.uniform(-1, 1, size=(200, 2))
    y = 3 * X[:, 0] - X[:, 1] + np.sin(6 * X[:, 0])
    near, far = AttentionRegressor().fit(X, y).predict([[0.0, 0.0], [10.0, -10.0]])
    assert abs(near) < 0.2
    assert far > 30
    assert AttentionRegressor(trend=False).fit(X, y).predict([[10.0, -10.0]]) <= y.max()


@capped
@pytest.mark.parametrize("kind", [AttentionClassifier, AttentionRegressor])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_the_trend_agree_with_finite_differences(rng, kind, weighted):
    key = rng.normal(size=(30, 4))
    value = np.eye(3)[rng.integers(0, 3, 30)]
    if kind is AttentionRegressor:
        value = rng.normal(size=(30, 3))
    rows = Rows(key, value, rng.uniform(0.5, 2, 30) if weighted else None, np.arange(30) // 2)
    chosen = np.array([1, 4, 5, 29])
    scorer = ac.make_scorer("gaussian", scale=rng.normal(size=4))
    model = kind._model(scorer, rng.normal(size=(4, 3)))
    _, grad = model.loss(rows, chosen, None)
    along = rng.normal(size=grad.shape)
    ends = [
        model.with_parameter_vector(model.parameter_vector + sign * 1e-6 * along).loss(
            rows, chosen, None
        )[0]
        for sign in (1, -1)
    ]
    assert grad @ along == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_learning_begins_with_the_best_slopes(rng):
    """With uniform attention, the trend is ridge regression on deviations from the mean."""
    X, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    model = Regression(ac.make_scorer("gaussian", scale=np.zeros(3)), np.zeros((3, 2)))
    begun = model.begun(Rows(X, y), np.arange(50), 2.0, None)
    # a row is 50/49 as far from the mean of the others as from the mean of all
    ridge = Ridge(alpha=2 * (49 / 50) ** 2).fit(X, y)
    np.testing.assert_allclose(begun.coefficients, ridge.coef_.T)


def test_both_forms_of_the_first_trend_agree(rng):
    X, y = rng.normal(size=(20, 30)), rng.normal(size=(20, 1))
    even = ac.make_scorer("gaussian", scale=np.zeros(30))
    begun = Regression(even, np.zeros((30, 1))).begun(Rows(X, y), np.arange(20), 2.0, None)
    ridge = Ridge(alpha=2 * (19 / 20) ** 2).fit(X, y[:, 0])
    np.testing.assert_allclose(begun.coefficients[:, 0], ridge.coef_)


@capped
@pytest.mark.parametrize("kind", [AttentionClassifier, AttentionRegressor])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_constant_and_repeated_features(blobs, kind, alpha):
    X, y = blobs
    targets = y if kind is AttentionClassifier else X[:, 0]
    for dtype in (np.float64, np.float32):
        more = np.hstack([X, X, np.full((200, 1), 0.1), np.zeros((200, 1))]).astype(dtype)
        model = kind(alpha=alpha, max_iter=20).fit(more[::2], targets[::2])
        assert model.score(more[1::2], targets[1::2]) > 0.85


# --- weights ---


@pytest.mark.parametrize("kind", [AttentionClassifier, AttentionRegressor])
def test_a_weight_of_three_is_the_row_three_times(blobs, kind):
    X, y = blobs
    targets = y if kind is AttentionClassifier else X[:, 0] ** 2
    weight = np.arange(200) % 4
    weighted = kind().fit(X, targets, sample_weight=weight)
    repeated = kind().fit(np.repeat(X, weight, axis=0), np.repeat(targets, weight))
    predict = "predict_proba" if kind is AttentionClassifier else "predict"
    found, expected = (getattr(model, predict)(X) for model in (weighted, repeated))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_that_cannot_be(blobs):
    X, y = blobs
    for weight, said in [(np.zeros(200), "non-zero|positive"), (np.arange(200) - 1, "egative")]:
        with pytest.raises(ValueError, match=said):
            AttentionClassifier().fit(X, y, sample_weight=weight)


def test_class_weights_move_the_border(rng):
    X = rng.normal(size=(300, 1))
    y = (X[:, 0] + rng.normal(size=300) > 1.5).astype(int)
    plain, balanced, chosen = (
        AttentionClassifier(class_weight=weight).fit(X, y).predict(X).mean()
        for weight in (None, "balanced", {0: 1, 1: 1000})
    )
    assert plain < balanced < chosen


# --- predictions ---


@pytest.mark.parametrize("trend", [True, False])
def test_probabilities(blobs, trend):
    X, y = blobs
    model = AttentionClassifier(trend=trend).fit(X, y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), proba)
    np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(X))
    if trend:
        assert np.isfinite(model.predict_log_proba(1e3 * X)).all()


def test_the_deviation_of_a_prediction(rng):
    X = rng.uniform(-1, 1, size=(1000, 1))
    y = 10 + 5 * X[:, 0] + (0.1 + (X[:, 0] > 0)) * rng.normal(size=1000)
    y[0] = 10
    weight = np.r_[2, np.ones(999)]
    model = AttentionRegressor("gaussian").fit(X, y, sample_weight=weight)
    mean, std = model.predict([[-0.8], [0.8]], return_std=True)
    np.testing.assert_array_equal(mean, model.predict([[-0.8], [0.8]]))
    # the loss without the penalty is the mean of squared errors
    scale = y.std()
    key, values = model.memory_.given_key, model.memory_.value
    loss, _ = leave_one_out(key, values, squared_error, weight=weight)(model.scorer_)
    errors = (model._squared_errors() * weight[:, None]).sum() / 1001
    assert errors == pytest.approx(loss)
    assert std[0] < 0.7 < std[1] < 1.3 < scale
    both = AttentionRegressor().fit(X, np.stack([y, 2 * y], axis=1), sample_weight=weight)
    _, spread = both.predict(X[:3], return_std=True)
    np.testing.assert_allclose(spread[:, 1], 2 * spread[:, 0])


def test_a_target_without_spread():
    mean, std = (
        AttentionRegressor().fit(np.eye(4), np.full(4, 7.0)).predict(np.eye(4), return_std=True)
    )
    np.testing.assert_array_equal(mean, np.full(4, 7.0))
    np.testing.assert_array_equal(std, np.zeros(4))


def test_verbose_prints_each_iteration(blobs, capsys):
    model = AttentionClassifier(verbose=1).fit(*blobs)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == model.n_iter_
    assert lines[0] == f"learning 1/100  loss {model.loss_curve_[1]:.4g}"


class Nearest(ac.Scorer):
    """A scorer without gradients and parameters."""

    def score(self, query, key):
        return -np.abs(query[..., :, None, :] - key[..., None, :, :]).sum(axis=-1)


@pytest.mark.parametrize("kind", [AttentionClassifier, AttentionRegressor])
def test_a_trend_needs_no_gradients_of_a_scorer_without_parameters(blobs, kind):
    X, y = blobs
    targets = y if kind is AttentionClassifier else X[:, 0] + X[:, 1] ** 2
    model = kind(Nearest()).fit(X[::2], targets[::2])
    assert model.trend_.any()
    assert model.score(X[1::2], targets[1::2]) > 0.9


def test_learning_that_did_not_converge_warns(blobs):
    with pytest.warns(ConvergenceWarning) as warned:
        AttentionClassifier(max_iter=1).fit(*blobs)
    assert str(warned[0].message) == (
        "learning did not converge in max_iter=1 iterations; raise max_iter, "
        "or raise tol=0.0001 or alpha=1.0"
    )
    assert warned[0].filename == __file__


def test_parameters_of_the_scorer():
    model = AttentionClassifier("additive")
    assert "scorer__hidden_dim" not in model.get_params()
    model.set_params(scorer__hidden_dim=8, alpha=2.0)
    assert model.scorer == {"name": "additive", "hidden_dim": 8}
    assert model.alpha == 2.0
    assert model.get_params()["scorer__hidden_dim"] == 8
    assert clone(model).set_params(scorer__rng=3).scorer["rng"] == 3
    assert "rng" not in model.scorer
    with pytest.raises(ac.OptionTypeError) as error:
        AttentionClassifier(ac.make_scorer("dot")).set_params(scorer__scale=2)
    assert str(error.value) == (
        "scorer__scale sets a parameter of a scorer that is given by name or as a mapping; "
        "scorer is DotScorer()"
    )


@pytest.mark.parametrize("kind", [AttentionClassifier, AttentionRegressor])
def test_a_misspelt_parameter_says_what_is_meant(kind):
    with pytest.raises(ac.OptionTypeError) as error:
        kind(max_iters=3)
    assert str(error.value) == (
        f"{kind.__name__}: unexpected argument 'max_iters'; did you mean 'max_iter'?"
    )


def test_units_do_not_matter(blobs):
    X, y = blobs
    model = AttentionClassifier().fit(X, y)
    other = AttentionClassifier().fit(1e4 * X + 7, y)
    np.testing.assert_allclose(other.predict_proba(1e4 * X + 7), model.predict_proba(X), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "load", "cv", "least"),
    [
        (AttentionRegressor(), load_diabetes, 5, 0.48),
        (AttentionClassifier(), load_digits, 3, 0.96),
        (AttentionClassifier(), load_wine, 5, 0.97),
    ],
)
def test_the_defaults_are_good(model, load, cv, least):
    assert cross_val_score(model, *load(return_X_y=True), cv=cv).mean() > least


@pytest.mark.slow
def test_the_defaults_are_good_with_many_rows(rng):
    X = rng.uniform(size=(20_000, 20))  # of which 8 features matter
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3]
    y += 5 * X[:, 4] + 5 * X[:, 5] * X[:, 6] + 3 * X[:, 7] + rng.normal(size=20_000)
    began = time.process_time()
    # with this seed, ten batches need 36 of the 100 iterations
    model = AttentionRegressor(random_state=4).fit(X[:16_000], y[:16_000])
    assert time.process_time() - began < 120
    assert model.score(X[16_000:], y[16_000:]) > 0.93


# --- initial parameters ---


@capped
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
        ("gaussian", {"scale": (3,)}),
        ("scaled_dot", {}),
    ],
)
def test_missing_arguments_of_a_scorer_are_filled_in(blobs, scorer, shapes):
    model = AttentionClassifier(scorer, max_iter=2, random_state=0).fit(*blobs)
    found = {name: array.shape for name, array in model.scorer_.parameters.items()}
    assert found == shapes


@capped
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
        ("alpha", "small", ac.OptionTypeError, AMOUNT),
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
        "n_samples = 7 leaves 1 to learn from at validation_fraction=0.8, but learning needs 2: "
        "give more rows, a smaller fraction, or early_stopping=False"
    )


def test_a_scorer_that_is_as_good_as_it_gets(blobs):
    model = AttentionClassifier(tol=1e9).fit(*blobs)
    assert len(model.loss_curve_) == 1
    assert model.n_iter_ == 1  # for scikit-learn


# --- large data ---


def batches(loss, **options):
    return learning_module.Batches(
        loss, 10, size=5, max_iter=15, tol=0.1, random_state=np.random.RandomState(0), **options
    )


def test_batches_visit_every_row_before_any_row_twice():
    seen = []

    def loss(model, rows):
        seen.append(rows)
        return 0.5 ** len(seen), np.zeros(1)

    found = batches(loss)
    for batch in found:
        batch(None)
    assert len(seen) == 6  # the next might take ten iterations
    for first in (0, 2, 4):
        assert sorted(np.concatenate(seen[first : first + 2])) == list(range(10))
    assert not np.array_equal(seen[0], seen[2])
    assert found.is_exhausted


@pytest.mark.parametrize(
    ("firsts", "count"),
    [
        ([1.0, 0.5, 0.47, 0.4, 0.39, 0.38], 6),  # the last two in a row
        ([1.0, 0.5, 0.47, 0.46, 0.1, 0.1], 4),
    ],
)
def test_batches_end_when_two_in_a_row_begin_no_better(firsts, count):
    values = iter(firsts)
    found = batches(lambda model, rows: (next(values), np.zeros(1)))
    assert len([batch(None) for batch in found]) == count


@capped
def test_batches_learn_too(blobs):
    X, y = blobs
    model = AttentionClassifier(batch_size=40, max_iter=50, random_state=0).fit(X[::2], y[::2])
    assert 1 < model.n_iter_ <= 50
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


@capped
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


@capped
def test_a_grid_search_chooses_the_scorer(blobs):
    X, y = blobs
    model = AttentionClassifier(trend=False, max_iter=10, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model),
        {"attentionclassifier__scorer": SCORERS},
        cv=2,
    ).fit(X, y)
    assert search.best_params_["attentionclassifier__scorer"] not in ("dot", "scaled_dot")
    assert search.best_score_ > 0.9


@capped
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


@pytest.mark.parametrize("argument", ["X", "y", "sample_weight"])
def test_masked_rows_are_refused_not_read_as_numbers(rng, argument):
    given = {"X": rng.normal(size=(6, 2)), "y": np.arange(6) % 2, "sample_weight": np.ones(6)}
    given[argument] = np.ma.array(given[argument], mask=np.zeros_like(given[argument]))
    fitted = AttentionClassifier("dot", fit_scorer=False).fit(**given)  # nothing is masked
    given[argument][0] = np.ma.masked
    for estimator in (AttentionClassifier("dot"), AttentionRegressor("dot")):
        with pytest.raises(ac.DTypeError, match=f"^{argument} has masked entries"):
            estimator.fit(**given)
    if argument == "X":
        with pytest.raises(ac.DTypeError, match=r"^X has masked entries"):
            fitted.predict(given["X"])


@pytest.mark.parametrize("flag", ["fit_scorer", "trend", "standardize", "early_stopping"])
def test_a_flag_that_is_none(rng, flag):
    estimator = AttentionRegressor("dot", **{flag: "no"})
    with pytest.raises(ac.OptionTypeError, match=f"^{flag} must be True or False, got 'no'"):
        estimator.fit(rng.normal(size=(6, 2)), np.arange(6.0))
