"""Third-party normalizers that break the contract: clear errors, never wrong numbers."""

import sys

import numpy as np
import pytest
import scipy.sparse

import attention_core as ac


class Linear(ac.Normalizer):
    """weights = max(s, 0) / sum max(s, 0), except for the methods that are replaced."""

    empty = (0.0,)

    def __init__(self, **methods):
        self.methods = methods

    def statistics(self, scores):
        if "statistics" in self.methods:
            return self.methods["statistics"](scores)
        return (np.maximum(scores, 0).sum(axis=-1, keepdims=True),)

    def weights(self, scores, statistics):
        if "weights" in self.methods:
            return self.methods["weights"](scores)
        (total,) = statistics
        np.maximum(scores, 0, out=scores)
        return np.divide(scores, total, out=scores, where=total > 0)

    def scores_vjp(self, weights, statistics, grad_weights, dot, row_sums):
        if "scores_vjp" in self.methods:
            return self.methods["scores_vjp"](weights)
        (total,) = statistics
        grad = (grad_weights - dot) * (weights > 0)
        return np.divide(grad, total, out=grad, where=total > 0)


X = np.arange(12.0).reshape(4, 3) % 5
WAYS = {
    "one tile": {},
    "tiles": {"tile": (2, 2)},
    "edges": {"mask": scipy.sparse.csr_array(np.ones((4, 4), bool))},
}


def run(way, **methods):
    result = ac.attend(X, X, X, scorer="dot", normalizer=Linear(**methods), **WAYS[way])
    return result, result.weights, result.vjp(X)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["statistics", "weights", "scores_vjp"])
def test_an_exit_is_a_broken_contract(way, method):
    with pytest.raises(ac.ScorerContractError, match=f"Linear raised SystemExit in {method}"):
        run(way, **{method: lambda scores: sys.exit(0)})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["statistics", "weights", "scores_vjp"])
@pytest.mark.parametrize("error", [MemoryError, TimeoutError, ZeroDivisionError])
def test_exceptions_keep_their_type_and_name_the_normalizer(way, method, error):
    def fails(scores):
        raise error

    with pytest.raises(error) as caught:
        run(way, **{method: fails})
    (note,) = caught.value.__notes__
    assert note.startswith(f"normalizer Linear raised {error.__name__} in {method} for arrays of ")


COLUMNS = "expected a tuple of 1 arrays (..., l, 1), one for each number in empty"
WRONG = [
    ("statistics", lambda s: None, f"NoneType from statistics; {COLUMNS}"),
    ("statistics", lambda s: s.sum(-1, keepdims=True), f"ndarray from statistics; {COLUMNS}"),
    (
        "statistics",
        lambda s: (s.sum(-1, keepdims=True),) * 2,
        f"2 arrays from statistics; {COLUMNS}",
    ),
    ("statistics", lambda s: (1.0,), "float from statistics; expected an array"),
    ("statistics", lambda s: (s.sum(-1),), "; expected (4, 1), a number for each row"),
    ("statistics", lambda s: (1j * s.sum(-1, keepdims=True),), "dtype complex128 from statistics"),
    ("weights", lambda s: None, "NoneType from weights; expected an array"),
    ("weights", lambda s: s.tolist(), "list from weights; expected an array"),
    ("weights", lambda s: np.ma.masked_greater(s, 0), "MaskedArray from weights; expected an arr"),
    ("weights", lambda s: s[:1], "from weights; expected"),
    ("weights", lambda s: s.astype("f4"), "dtype float32 from weights; expected float64, as the"),
    ("scores_vjp", lambda w: None, "NoneType from scores_vjp; expected an array"),
    ("scores_vjp", lambda w: w[:1], "from scores_vjp; expected"),
    ("scores_vjp", lambda w: 1j * w, "dtype complex128 from scores_vjp; expected float64, as the"),
    ("scores_vjp", lambda w: np.ma.masked_greater(w, 0), "MaskedArray from scores_vjp; expected"),
]


@pytest.mark.parametrize(("method", "function", "text"), WRONG)
@pytest.mark.parametrize("way", ["one tile", "edges"])
def test_results_are_checked(way, method, function, text):
    with pytest.raises(ac.ScorerContractError) as caught:
        run(way, **{method: function})
    assert str(caught.value).startswith("normalizer Linear returned ")
    assert text in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["statistics", "scores_vjp"])
def test_shared_arrays_are_read_only(way, method):
    with pytest.raises(ValueError, match="read-only"):
        run(way, **{method: lambda array: array.__imul__(0)})


@pytest.mark.parametrize("way", WAYS)
def test_an_array_of_its_own_is_not_written_to(way):
    own = np.full((4, 4), 0.25)
    halves = scipy.sparse.csr_array(np.full((4, 4), 0.5))
    normalizer = Linear(weights=lambda scores: own.reshape(-1)[: scores.size].reshape(scores.shape))
    for _ in range(2):
        result = ac.attend(
            X, X, X, scorer="dot", normalizer=normalizer, weight_factors=halves, **WAYS[way]
        )
        np.testing.assert_allclose(result.context, 0.125 * X.sum(axis=0, keepdims=True) + 0 * X)
        assert (own == 0.25).all()
