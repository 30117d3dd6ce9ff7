"""Invalid inputs of attend, and the texts of its errors.

Every text is checked verbatim. Each error is also the built-in class that callers already catch.
"""

from __future__ import annotations

import datetime
import sys
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from cases import make_case

import attention_core as ac

Q, K, V = np.ones((5, 4)), np.ones((7, 4)), np.ones((7, 3))
HEADS = {"query": np.ones((2, 3, 5, 4)), "key": np.ones((2, 3, 7, 4)), "value": np.ones((7, 3))}


def refusal(query=Q, key=K, value=V, *, scorer="dot", **options):
    """The class and the text of the error that a call raises."""
    with pytest.raises(ac.AttentionCoreError) as caught:
        ac.attend(query, key, value, scorer=scorer, **options)
    return type(caught.value), str(caught.value)


# ------------------------------------------------------------------------------- shapes of arrays


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (
            {"query": np.float64(1)},
            "query must have shape (..., L, Dq) or (Dq,), got ()",
        ),
        (
            {"key": np.ones(4)},
            "key must have shape (..., S, Dk), got (4,)",
        ),
        (
            {"value": np.ones(7)},
            "value must have shape (..., S, Dv), got (7,)",
        ),
        (
            {"key": np.float64(1)},
            "key must have shape (..., S, Dk), got ()",
        ),
        (
            {"value": np.ones((6, 3))},
            (
                "key (..., S, Dk) and value (..., S, Dv) must agree on S, "
                "got key (7, 4) and value (6, 3)"
            ),
        ),
        (
            {"query": np.ones((2, 5, 4)), "key": np.ones((3, 7, 4))},
            (
                "batch axes (all but the last two) must broadcast, "
                "got query (2, 5, 4), key (3, 7, 4), value (7, 3)"
            ),
        ),
        (
            {"value": np.ones((3, 7, 3)), "key": np.ones((2, 7, 4))},
            (
                "batch axes (all but the last two) must broadcast, "
                "got query (5, 4), key (2, 7, 4), value (3, 7, 3)"
            ),
        ),
    ],
)
def test_arrays_that_do_not_fit_together(arrays, text):
    assert refusal(**arrays) == (ac.ShapeError, text)


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("dot", {}, "needs queries and keys with the same number of features, "),
        ("scaled_dot", {}, "needs queries and keys with the same number of features, "),
        ("general", {"weight": np.ones((3, 4))}, "has weights for (Dq, Dk) = (3, 4), "),
        (
            "general",
            {"query_factor": np.ones((3, 2)), "key_factor": np.ones((4, 2))},
            "has weights for (Dq, Dk) = (3, 4), ",
        ),
        (
            "additive",
            {
                "query_weight": np.ones((3, 6)),
                "key_weight": np.ones((4, 6)),
                "score_weight": np.ones(6),
            },
            "has weights for (Dq, Dk) = (3, 4), ",
        ),
    ],
)
def test_features_that_a_scorer_cannot_take(name, parameters, text):
    scorer = ac.make_scorer(name, **parameters)
    way_out = "; scorer 'general' accepts different ones" if name in {"dot", "scaled_dot"} else ""
    assert refusal(np.ones((5, 2)), scorer=scorer) == (
        ac.ShapeError,
        (
            f"scorer {name!r} (attention-core {ac.__version__}) {text}"
            f"got query (..., L, 2) and key (..., S, 4){way_out}"
        ),
    )


def test_a_missing_value():
    assert refusal(value=None) == (
        ac.OptionTypeError,
        "value is missing: give it after key, or a Memory as key",
    )


# ------------------------------------------------------------------------------ dtypes of arrays

UNFIT = {
    "complex128": np.complex128,
    "complex64": np.complex64,
    "object": object,
    "datetime64[s]": "datetime64[s]",
    "timedelta64[s]": "timedelta64[s]",
    "<U1": "U1",
    "|S1": "S1",
    "float8_e5m2": ml_dtypes.float8_e5m2,
}
if np.dtype(np.longdouble) != np.float64:  # on some platforms they are the same
    UNFIT[str(np.dtype(np.longdouble))] = np.longdouble


@pytest.mark.parametrize("dtype", UNFIT)
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_dtypes_that_cannot_be_attended_with(name, dtype):
    array = {"query": Q, "key": K, "value": V}[name].astype(int).astype(UNFIT[dtype])
    assert refusal(**{name: array}) == (
        ac.DTypeError,
        (
            f"{name} must hold real numbers (float16, bfloat16, float32, float64 or integers), "
            f"got dtype {dtype}{advice(dtype)}"
        ),
    )


def advice(dtype):
    if dtype.startswith("complex"):
        return "; take its .real or its .imag"
    kind = "'int64'" if "time" in dtype else "float"
    return f"; convert it with numpy.asarray(..., dtype={kind})"


def test_structured_arrays_are_refused():
    pair = np.dtype([("x", "f8"), ("y", "f8")])
    kind, text = refusal(np.zeros((5, 4), pair))
    assert kind is ac.DTypeError
    assert text.startswith("query must hold real numbers")


@pytest.mark.parametrize("ragged", [[[1.0], [1.0, 2.0]], "abc", [["a"]], None, [[None]]])
def test_things_that_are_no_arrays_of_numbers_are_refused(ragged):
    with pytest.raises((ac.ShapeError, ac.DTypeError), match="query"):
        ac.attend(ragged, K, V, scorer="dot")


# ------------------------------------------------------------------------------------------- mask


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "uint8", "object"]
)
def test_a_mask_that_is_not_boolean(dtype):
    mask = np.ones((5, 7), ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    assert refusal(mask=mask) == (
        ac.DTypeError,
        (
            f"mask must be boolean (True = may attend), got dtype {dtype}; "
            "to add numbers to the scores use bias=, to keep nonzero entries use mask != 0"
        ),
    )


def test_a_mask_function_that_does_not_return_booleans():
    assert refusal(mask=lambda i, j: 1.0 * (i >= j)) == (
        ac.DTypeError,
        (
            "the mask function must return booleans (True = may attend), got dtype float64; "
            "to add numbers to the scores use bias=, to keep nonzero entries use mask != 0"
        ),
    )


@pytest.mark.parametrize("name", ["mask", "bias", "weight_factors"])
def test_a_function_that_does_not_take_two_positions(name):
    assert refusal(**{name: abs}) == (
        ac.OptionTypeError,
        (
            f"the {name} function must take (query_positions, key_positions): "
            "abs() takes exactly one argument (2 given)"
        ),
    )


@pytest.mark.parametrize("name", ["mask", "bias"])
def test_a_type_error_inside_a_function_stays_as_it_is(name):
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        ac.attend(np.eye(2), np.eye(2), np.eye(2), scorer="dot", **{name: lambda i, j: i + None})
    assert not isinstance(caught.value, ac.OptionTypeError)


@pytest.mark.parametrize("shape", [(7, 5), (4, 7), (2, 5, 7), (5,), (6,)], ids=str)
@pytest.mark.parametrize("name", ["mask", "bias"])
def test_a_mask_or_bias_that_does_not_broadcast(name, shape):
    array = np.ones(shape, bool if name == "mask" else float)
    assert refusal(**{name: array}) == (
        ac.ShapeError,
        f"{name} must broadcast to (..., L, S) = (5, 7), got shape {shape}",
    )


def test_a_mask_that_does_not_broadcast_to_the_batch():
    assert refusal(**HEADS, mask=np.ones((3, 2, 5, 7), bool)) == (
        ac.ShapeError,
        "mask must broadcast to (..., L, S) = (2, 3, 5, 7), got shape (3, 2, 5, 7)",
    )


@pytest.mark.parametrize("name", ["mask", "bias"])
def test_a_mask_or_bias_of_one_query_has_no_query_axis(name):
    array = np.ones((1, 7), bool if name == "mask" else float)
    assert refusal(Q[0], **{name: array}) == (
        ac.ShapeError,
        f"{name} must broadcast to (..., S) = (7,), got shape (1, 7)",
    )


@pytest.mark.parametrize("name", ["mask", "bias"])
def test_a_mask_or_bias_function_of_the_wrong_shape(name):
    def function(i, j):
        return np.ones((2, 2), bool if name == "mask" else float)

    assert refusal(**{name: function}) == (
        ac.ShapeError,
        (
            f"the {name} function returned shape (2, 2) for query positions (5, 1) and "
            "key positions (1, 7); expected a shape that broadcasts to (..., l, s) = (5, 7)"
        ),
    )


@pytest.mark.parametrize("shape", [(7, 5), (5, 6)], ids=str)
def test_a_sparse_mask_of_the_wrong_shape(shape):
    assert refusal(mask=scipy.sparse.csr_array(shape, dtype=bool)) == (
        ac.ShapeError,
        f"a sparse mask must have shape (L, S) = (5, 7), got {shape}",
    )


# ------------------------------------------------------------------------------------------- bias


def test_a_boolean_bias_says_use_mask():
    assert refusal(bias=np.ones((5, 7), bool)) == (
        ac.DTypeError,
        "bias must hold real numbers to add to the scores, got a boolean array; use mask=",
    )


@pytest.mark.parametrize("dtype", ["complex128", "object", "datetime64[s]", "<U1"])
def test_a_bias_of_anything_but_real_numbers(dtype):
    assert refusal(bias=np.zeros((5, 7), int).astype(dtype)) == (
        ac.DTypeError,
        f"bias must hold real numbers, got dtype {dtype}{advice(dtype)}",
    )


def test_a_structured_bias_is_refused():
    kind, text = refusal(bias=np.zeros((5, 7), [("x", "f8")]))
    assert kind is ac.DTypeError
    assert text.startswith("bias must hold real numbers, got dtype")


def test_a_bias_function_of_anything_but_real_numbers():
    assert refusal(bias=lambda i, j: (i - j) * 1j) == (
        ac.DTypeError,
        "the bias function must return real numbers, got dtype complex128; take its .real "
        "or its .imag",
    )


def test_a_sparse_bias_needs_a_sparse_mask():
    assert refusal(bias=scipy.sparse.csr_array((5, 7))) == (
        ac.OptionError,
        (
            "a sparse bias holds numbers on the edges of a sparse mask, and this call has none: "
            "give mask=bias != 0, or the dense array, bias.toarray()"
        ),
    )


# --------------------------------------------------------------------------- lengths and offsets

PER_ITEM = ["key_lengths", "query_lengths", "query_offset"]


@pytest.mark.parametrize("name", ["key_lengths", "query_lengths"])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [([1.5, 2.0], "float64"), ([True, False], "bool"), (["a", "b"], "<U1"), (2.0, "float64")],
)
def test_lengths_that_are_no_integers(name, value, dtype):
    advice = "; convert it with numpy.asarray(..., dtype=int)" if dtype == "float64" else ""
    assert refusal(**HEADS, **{name: value}) == (
        ac.DTypeError,
        f"{name} must be integers, one per batch item, got dtype {dtype}{advice}",
    )


@pytest.mark.parametrize("name", PER_ITEM)
@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 3, 1), (2, 2)], ids=str)
def test_lengths_and_offsets_that_do_not_fit_the_batch(name, shape):
    assert refusal(**HEADS, **{name: np.ones(shape, int)}) == (
        ac.ShapeError,
        (
            f"{name} must hold one integer, or one per batch item along the leading batch axes "
            f"(2, 3), got shape {shape}"
        ),
    )


@pytest.mark.parametrize("name", ["key_lengths", "query_lengths"])
@pytest.mark.parametrize("value", [-1, np.array([3, -1])], ids=str)
def test_lengths_below_zero(name, value):
    assert refusal(**HEADS, **{name: value}) == (
        ac.OptionError,
        f"{name} must be at least 0, got -1",
    )


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        (
            {"is_causal": "yes"},
            ac.OptionTypeError,
            "is_causal must be True or False, got 'yes'",
        ),
        (
            {"is_causal": 1},
            ac.OptionTypeError,
            "is_causal must be True or False, got 1",
        ),
        (
            {"is_causal": None},
            ac.OptionTypeError,
            "is_causal must be True or False, got None",
        ),
        (
            {"window": 3},
            ac.OptionTypeError,
            "window must be a pair (left, right) of key counts, None for an open side, got 3",
        ),
        (
            {"window": (1, 2, 3)},
            ac.OptionTypeError,
            (
                "window must be a pair (left, right) of key counts, None for an open side, "
                "got (1, 2, 3)"
            ),
        ),
        (
            {"window": (1.5, 0)},
            ac.OptionTypeError,
            "window must hold integers, or None for an open side, got 1.5 in (1.5, 0)",
        ),
        (
            {"window": (-1, 0)},
            ac.OptionError,
            "window must hold counts of at least 0, got -1 in (-1, 0)",
        ),
        (
            {"window": (0, -3)},
            ac.OptionError,
            "window must hold counts of at least 0, got -3 in (0, -3)",
        ),
        (
            {"softcap": 0},
            ac.OptionError,
            "softcap must be positive and finite, or None for no cap, got 0",
        ),
        (
            {"softcap": -2.0},
            ac.OptionError,
            "softcap must be positive and finite, or None for no cap, got -2.0",
        ),
        (
            {"softcap": float("inf")},
            ac.OptionError,
            "softcap must be positive and finite, or None for no cap, got inf",
        ),
        (
            {"softcap": float("nan")},
            ac.OptionError,
            "softcap must be positive and finite, or None for no cap, got nan",
        ),
        (
            {"softcap": "30"},
            ac.OptionTypeError,
            "softcap must be a positive number or None, got '30'",
        ),
        (
            {"softcap": True},
            ac.OptionTypeError,
            "softcap must be a positive number or None, got True",
        ),
        (
            {"tile": 64},
            ac.OptionTypeError,
            "tile must be a pair of integers (queries, keys), or None to choose, got 64",
        ),
        (
            {"tile": (64, 1.0)},
            ac.OptionTypeError,
            "tile must be a pair of integers (queries, keys), or None to choose, got (64, 1.0)",
        ),
        (
            {"tile": (0, 64)},
            ac.OptionError,
            "tile must hold counts of at least 1, got (0, 64)",
        ),
        (
            {"workers": 0},
            ac.OptionError,
            "workers must be at least 1, got 0",
        ),
        (
            {"workers": 2.0},
            ac.OptionTypeError,
            "workers must be an integer, or None for every core, got 2.0",
        ),
        (
            {"query_offset": "start"},
            ac.OptionTypeError,
            "query_offset must be an integer, an integer array, one per batch item, or 'end', "
            "got 'start'",
        ),
        (
            {"query_offset": 1.5},
            ac.OptionTypeError,
            "query_offset must be an integer, an integer array, one per batch item, or 'end', "
            "got 1.5",
        ),
        (
            {"query_offset": [0.0, 1.0]},
            ac.OptionTypeError,
            "query_offset must be an integer, an integer array, one per batch item, or 'end', "
            "got [0.0, 1.0]",
        ),
        (
            {"query_offset": np.array([True])},
            ac.OptionTypeError,
            "query_offset must be an integer, an integer array, one per batch item, or 'end', "
            "got array([ True])",
        ),
    ],
    ids=str,
)
def test_impossible_options(option, error, text):
    assert refusal(**option) == (error, text)
    with pytest.raises(error) as caught:  # before any array is given
        ac.Attention("dot", **option)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "option",
    [
        {"is_causal": np.True_},
        {"window": (np.int64(1), np.int32(0))},
        {"window": [1, 0]},
        {"softcap": 3},
        {"softcap": np.float32(3)},
        {"softcap": Fraction(7, 2)},
        {"tile": (np.int64(2), 3)},
        {"workers": np.int64(1)},
        {"query_offset": np.int64(2)},
        {"query_offset": np.array(2)},
        {"key_lengths": np.int8(3)},
        {"key_lengths": np.array(3, np.uint64)},
        {"query_lengths": np.array(2)},
    ],
    ids=str,
)
def test_options_in_the_types_of_numpy_are_fine(rng, option):
    case = make_case("dot")
    plain = {
        name: np.asarray(value).tolist() if name != "softcap" else float(value)
        for name, value in option.items()
    }
    query, key, value = case.arrays(rng)
    ours = case.attend(query, key, value, **option)
    theirs = case.attend(query, key, value, **plain)
    np.testing.assert_array_equal(ours.weights, theirs.weights)


# ------------------------------------------------------------------------------------------ results


@pytest.mark.parametrize(
    ("n", "error", "text"),
    [
        (0, ac.OptionError, "top_k: n must be at least 1, got 0"),
        (-1, ac.OptionError, "top_k: n must be at least 1, got -1"),
        (1.0, ac.OptionTypeError, "top_k: n must be an integer, got 1.0"),
        (True, ac.OptionTypeError, "top_k: n must be an integer, got True"),
    ],
    ids=str,
)
def test_an_impossible_top_k(n, error, text):
    result = ac.attend(Q, K, V, scorer="dot")
    with pytest.raises(error) as caught:
        result.top_k(n)
    assert (type(caught.value), str(caught.value)) == (error, text)


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        (5, ac.OptionError, "rows: query 5 is out of bounds for 5 queries"),
        (-6, ac.OptionError, "rows: query -6 is out of bounds for 5 queries"),
        (1.0, ac.OptionTypeError, "rows must be a slice or an integer, got 1.0"),
        ([0, 1], ac.OptionTypeError, "rows must be a slice or an integer, got [0, 1]"),
    ],
    ids=str,
)
def test_rows_that_are_not_there(rows, error, text):
    result = ac.attend(Q, K, V, scorer="dot")
    with pytest.raises(error) as caught:
        result.rows(rows)
    assert (type(caught.value), str(caught.value)) == (error, text)


# ------------------------------------------------------------------------------------------- memory


def test_a_memory_brings_its_own_value():
    memory = ac.Attention("dot").memory(K, V)
    assert refusal(Q, memory, V) == (
        ac.OptionTypeError,
        "value must be omitted: the memory holds the values",
    )


def test_a_memory_serves_the_scorer_it_was_made_for():
    memory = ac.Attention("scaled_dot").memory(K, V)
    assert refusal(Q, memory, None) == (
        ac.OptionError,
        (
            f"this memory was made for another scorer, scorer 'scaled_dot' "
            f"(attention-core {ac.__version__}); make one with this attention's memory(key, value)"
        ),
    )


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        (
            np.ones((2, 4)),
            np.ones((3, 3)),
            ac.ShapeError,
            (
                "key (..., S, Dk) and value (..., S, Dv) must agree on S, "
                "got key (2, 4) and value (3, 3)"
            ),
        ),
        (
            np.ones((2, 5)),
            np.ones((2, 3)),
            ac.ShapeError,
            "key to append must have shape (..., n, 4), got (2, 5)",
        ),
        (
            np.ones((2, 4)),
            np.ones((2, 2)),
            ac.ShapeError,
            "value to append must have shape (..., n, 3), got (2, 2)",
        ),
        (
            np.ones((2, 2, 4)),
            np.ones((2, 2, 3)),
            ac.ShapeError,
            "key to append must have batch axes that broadcast to (), got (2,)",
        ),
    ],
)
def test_appending_what_does_not_continue_a_memory(key, value, error, text):
    memory = ac.Attention("dot").memory(K, V)
    with pytest.raises(error) as caught:
        memory.append(key, value)
    assert (type(caught.value), str(caught.value)) == (error, text)


def test_appending_numbers_that_a_memory_cannot_hold():
    memory = ac.Attention("dot").memory(K.astype(np.float32), V.astype(np.float32))
    with pytest.raises(ac.DTypeError) as caught:
        memory.append(K, V)
    assert str(caught.value) == (
        "the memory holds float32, which cannot keep the digits of key float64 and value float64: "
        "convert them, or make the memory from wider arrays"
    )


# ------------------------------------------------------------------------ scorers that misbehave


class Broken(ac.Scorer):
    def __init__(self, does):
        self.does = does

    def score(self, query, key):
        return self.does(query @ key.swapaxes(-1, -2))


@pytest.mark.parametrize(
    ("does", "text"),
    [
        (
            lambda s: s.swapaxes(-1, -2),
            (
                "scorer Broken returned shape (7, 5); expected (..., L, S) = (5, 7) "
                "for query (5, 4), key (7, 4)"
            ),
        ),
        (
            lambda s: s[0],
            (
                "scorer Broken returned shape (7,); expected (..., L, S) = (5, 7) "
                "for query (5, 4), key (7, 4)"
            ),
        ),
        (
            lambda s: s.astype(np.float32),
            (
                "scorer Broken returned dtype float32 from score; expected float64, the dtype it "
                "was given; cast parameters, as in weight.astype(query.dtype, copy=False), and "
                "multiply by Python numbers, not NumPy scalars"
            ),
        ),
        (
            lambda s: s.tolist(),
            "scorer Broken returned list from score; expected an array",
        ),
        (
            lambda s: None,
            "scorer Broken returned NoneType from score; expected an array",
        ),
        (
            lambda s: np.ma.masked_array(s, s > 0),
            "scorer Broken returned MaskedArray from score; expected an array",
        ),
        (
            lambda s: sys.exit(0),
            "scorer Broken raised SystemExit in score for arrays of shape (5, 4), (7, 4)",
        ),
    ],
)
def test_a_scorer_that_breaks_its_contract_is_named(does, text):
    assert refusal(scorer=Broken(does)) == (ac.ScorerContractError, text)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("by nothing"), TimeoutError(), MemoryError(), KeyboardInterrupt()]
)
def test_an_exception_in_a_scorer_keeps_its_type_and_names_the_scorer(error):
    def does(scores):
        raise error

    with pytest.raises(type(error)) as caught:
        ac.attend(Q, K, V, scorer=Broken(does))
    assert caught.value is error
    assert error.__notes__ == [
        f"scorer Broken raised {type(error).__name__} in score for arrays of shape (5, 4), (7, 4)"
    ]


def test_a_scorer_cannot_write_to_the_arrays_of_its_caller():
    class Writing(ac.InnerProductScorer):
        def project_query(self, query):
            query *= 2
            return query

    query = Q.copy()
    with pytest.raises(ValueError, match="read-only") as caught:
        ac.attend(query, K, V, scorer=Writing())
    assert caught.value.__notes__[0].startswith("scorer Writing raised ValueError in project_query")
    np.testing.assert_array_equal(query, Q)


@pytest.mark.parametrize("bound", [None, "1", 1j, np.ones(2)])
def test_a_bound_that_is_not_a_number_is_named(bound):
    class Lying(ac.InnerProductScorer):
        def score_bound(self, query, key):
            return bound

    with pytest.raises(ac.ScorerContractError, match=r"scorer Lying returned .* from score_bound"):
        ac.attend(np.ones((20, 4)), K, V, scorer=Lying(), tile=(16, 4))


@pytest.mark.parametrize("method", ["project_query", "project_key"])
def test_a_projection_that_breaks_its_contract_is_named(method):
    length = {"project_query": 5, "project_key": 7}[method]

    def scorer(does):
        return type("Broken", (ac.InnerProductScorer,), {method: lambda self, array: does(array)})()

    for does in (lambda a: a[:-1], lambda a: a.astype(np.float32), lambda a: None):
        kind, text = refusal(scorer=scorer(does))
        assert kind is ac.ScorerContractError
        assert text.startswith("scorer Broken")
        assert method in text
    assert refusal(scorer=scorer(lambda a: a[:-1])) == (
        ac.ScorerContractError,
        (
            f"scorer Broken returned shape ({length - 1}, 4) from {method} for ({length}, 4); "
            f"expected ({length}, H)"
        ),
    )


def test_a_scorer_of_no_known_kind():
    for scorer in (None, 3, len):
        with pytest.raises(ac.AttentionCoreError):
            ac.attend(Q, K, V, scorer=scorer)


# --------------------------------------------------------------------------------- the base classes


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"query": np.ones((5, 3))}),
        (TypeError, {"query": Q.astype(complex)}),
        (ValueError, {"softcap": -1}),
        (TypeError, {"softcap": "a"}),
        (TypeError, {"mask": np.ones((5, 7))}),
        (ValueError, {"mask": np.ones((5, 8), bool)}),
    ],
    ids=str,
)
def test_errors_are_also_what_python_calls_them(error, options):
    arrays = {"query": Q, "key": K, "value": V} | options
    with pytest.raises(error) as caught:
        ac.attend(**arrays, scorer="dot")
    assert isinstance(caught.value, ac.AttentionCoreError)


def test_dates_are_refused_before_any_work():
    when = np.full((5, 4), datetime.datetime(2014, 9, 1))
    assert refusal(when)[0] is ac.DTypeError


def test_everything_is_checked_before_the_scorer_is_asked():
    class Never(ac.Scorer):
        def score(self, query, key):
            raise AssertionError("asked")

    for options in (
        {"mask": np.ones((5, 8), bool)},
        {"bias": np.ones((5, 7), bool)},
        {"key_lengths": [1.5]},
        {"value": np.ones((6, 3))},
        {"softcap": -1.0},
    ):
        assert refusal(**options, scorer=Never())[0] is not ac.ScorerContractError
