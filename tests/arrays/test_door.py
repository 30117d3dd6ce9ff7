"""Checks of input arrays: masked, sparse, nullable and foreign ones, and integers of any size."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
from hypothesis import example, given
from hypothesis import strategies as st

import attention_core as ac
from attention_core.arrays.inputs import LARGEST, as_integers, to_numpy
from attention_core.leave_one_out import leave_one_out, squared_error

Q, K, V = np.ones((4, 2)), np.ones((6, 2)), np.arange(6.0)[:, None]
MASKED = (
    " has masked entries (numpy.ma), which would be read as numbers: exclude keys with mask= "
    "(True = may attend), and fill the entries with .filled(0)"
)


def text_of(kind, function, *arguments, **options):
    """The text of an error of this class."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert type(caught.value) is kind
    return str(caught.value)


def hidden(array):
    """The same numbers as a masked array, of which the last is masked."""
    masked = np.ma.array(array, mask=np.zeros(np.shape(array), bool))
    masked.mask.flat[-1] = True
    return masked


# ---------------------------------------------------------------------------------- masked arrays

CALL = {
    "query": Q,
    "key": K,
    "value": V,
    "mask": np.ones((4, 6), bool),
    "bias": np.zeros((4, 6)),
    "key_lengths": np.array(6),
    "query_lengths": np.array(4),
    "query_offset": np.array(0),
}


@pytest.mark.parametrize("name", CALL)
def test_a_masked_array_is_refused_by_every_argument(name):
    call = CALL | {name: hidden(CALL[name])}
    assert text_of(ac.DTypeError, ac.attend, **call, scorer="dot") == name + MASKED


@pytest.mark.parametrize("name", ["key_lengths", "query_lengths", "query_offset"])
def test_a_masked_number_per_item_is_refused(name):
    batch = {"query": Q[None], "key": K[None], "value": V[None], name: hidden([3])}
    assert text_of(ac.DTypeError, ac.attend, **batch, scorer="dot") == name + MASKED


@pytest.mark.parametrize("name", CALL)
def test_a_masked_array_with_nothing_masked_is_an_array(name):
    result = ac.attend(**(CALL | {name: np.ma.array(CALL[name])}), scorer="dot")
    np.testing.assert_array_equal(result.context, ac.attend(**CALL, scorer="dot").context)


def test_masked_rows_in_a_list_are_refused():
    key = [hidden([1.0, 2.0]), [3.0, 4.0]]
    assert text_of(ac.DTypeError, ac.attend, Q, key, V[:2], scorer="dot") == "key" + MASKED
    key = [[1.0, np.ma.masked], [3.0, 4.0]]
    assert text_of(ac.DTypeError, ac.attend, Q, key, V[:2], scorer="dot") == "key" + MASKED


@pytest.mark.parametrize("name", ["mask", "bias"])
def test_masked_results_of_functions_are_refused(name):
    function = {name: lambda i, j: hidden((i >= j) if name == "mask" else 0.0 * (i - j))}
    expected = f"what the {name} function returned" + MASKED
    assert text_of(ac.DTypeError, ac.attend, Q, K, V, **function, scorer="dot") == expected


def test_masked_gradients_memories_and_parameters_are_refused():
    result = ac.attend(Q, K, V, scorer="dot")
    text = text_of(ac.DTypeError, result.vjp, hidden(result.context))
    assert text == "grad_context" + MASKED
    attention = ac.Attention("dot")
    assert text_of(ac.DTypeError, attention.memory, hidden(K), V) == "key" + MASKED
    memory = attention.memory(K, V)
    assert text_of(ac.DTypeError, memory.append, Q[0], hidden(V[0])) == "value" + MASKED
    memory = attention.memory(K[None], V[None])
    assert text_of(ac.DTypeError, memory.take, hidden([0])) == "indices" + MASKED
    scorer = ac.make_scorer("general", weight=np.eye(2))
    for change in (
        lambda: ac.make_scorer("general", weight=hidden(np.eye(2))),
        lambda: scorer.with_parameters({"weight": hidden(np.eye(2))}),
    ):
        assert text_of(ac.ScorerConfigError, change).endswith(": parameter 'weight'" + MASKED)
    text = text_of(ac.ScorerConfigError, scorer.with_parameter_vector, hidden(np.ones(4)))
    assert text.endswith(": the vector" + MASKED)


def test_masked_arrays_of_a_layer_are_refused():
    layer = ac.MultiHeadAttention.initialize(2, heads=2, rng=0)
    for name in ("query", "key", "value"):
        arrays = {"query": Q, "key": K, "value": K} | {name: hidden(K)}
        assert text_of(ac.DTypeError, layer, **arrays) == name + MASKED
    for options in ({"mask": hidden(np.ones((4, 6), bool))}, {"bias": hidden(np.zeros((4, 6)))}):
        (name,) = options
        assert text_of(ac.DTypeError, layer, Q, K, K, **options) == name + MASKED
    result = layer(Q, K, K)
    assert text_of(ac.DTypeError, result.vjp, hidden(result.output)) == "grad_output" + MASKED


def test_masked_rows_are_refused_by_leave_one_out_and_packing():
    text = text_of(ac.DTypeError, leave_one_out, hidden(K), V, squared_error)
    assert text == "key" + MASKED
    assert text_of(ac.DTypeError, ac.Packing, hidden([0, 2])) == "query_starts" + MASKED
    text = text_of(ac.DTypeError, ac.Packing.from_lengths, hidden([0, 2]))
    assert text == "query_lengths" + MASKED


# ----------------------------------------------------- objects that are not NumPy arrays of numbers


def test_sparse_arrays_are_named():
    for sparse in (scipy.sparse.csr_array(K), scipy.sparse.coo_matrix(K)):
        kind = type(sparse).__name__
        assert text_of(ac.DTypeError, ac.attend, Q, sparse, V, scorer="dot") == (
            f"key must be a dense array, got a sparse {kind}; call .toarray()"
        )


def test_nullable_columns_are_named():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, None], "b": [2.5, 3.5]}).convert_dtypes()
    text = text_of(ac.DTypeError, ac.attend, Q, frame, V[:2], scorer="dot")
    assert text == (
        "key must hold numbers of one dtype, got a pandas DataFrame of nullable or mixed columns; "
        "call .to_numpy(dtype=float, na_value=float('nan')), "
        "or .to_numpy(dtype=bool, na_value=False) for a mask"
    )
    mask = pandas.DataFrame({"a": [True, None], "b": [True, True]}, dtype="boolean")
    text = text_of(ac.DTypeError, ac.attend, Q[:2], K[:2], V[:2], mask=mask, scorer="dot")
    assert text.startswith("mask must hold numbers of one dtype, got a pandas DataFrame")
    filled = frame.to_numpy(dtype=float, na_value=float("nan"))
    assert ac.attend(Q, filled, V[:2], scorer="dot").context.shape == (4, 1)


@pytest.mark.slow  # to import torch
def test_tensors_that_numpy_cannot_read_are_named():
    torch = pytest.importorskip("torch")
    zeros = torch.zeros((4, 6))
    tensors = {
        "bias.detach().numpy()": zeros.clone().requires_grad_(),
        "bias.float().numpy()": zeros.bfloat16(),
        "bias.detach().float().numpy()": zeros.bfloat16().requires_grad_(),
        "bias.to_dense().numpy()": zeros.to_sparse(),
        "torch.stack(bias)": list(zeros.bfloat16()),
    }
    for way_out, tensor in tensors.items():
        text = text_of(ac.DTypeError, ac.attend, Q, K, V, bias=tensor, scorer="dot")
        kind = "list of torch.Tensor" if isinstance(tensor, list) else "torch.Tensor"
        assert text.startswith(f"bias must be an array that NumPy can read, got a {kind}: ")
        assert text.endswith(f"; call {way_out}")
        assert "Use" not in text
        if kind == "torch.Tensor":
            bias = eval(way_out, {"bias": tensor})
            ac.attend(Q, K, V, bias=bias, scorer="dot")
    text = text_of(ac.DTypeError, ac.attend, Q, K, V, bias=zeros.to("meta"), scorer="dot")
    assert "meta" in text
    assert ac.attend(Q, K, V, bias=torch.ones((4, 6)), scorer="dot").context.shape == (4, 1)


def test_other_things_are_named():
    assert text_of(ac.DTypeError, to_numpy, "key", None) == "key must be an array, got None"
    text = text_of(ac.DTypeError, to_numpy, "key", {"a": 1})
    assert text == "key must be an array, got {'a': 1}"
    assert text_of(ac.ShapeError, to_numpy, "key", [[1], [1, 2]]) == (
        "key must be an array, got nested lists of different lengths"
    )

    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("on another device\nsecond line")

    text = text_of(ac.DTypeError, to_numpy, "key", Broken())
    package = __name__.partition(".")[0]
    expected = (
        f"key must be an array that NumPy can read, got a {package}.Broken: on another device"
    )
    assert text == expected


@pytest.mark.parametrize("error", [MemoryError, TimeoutError, KeyboardInterrupt])
def test_errors_about_other_things_pass(error):
    class Interrupted:
        def __array__(self, dtype=None, copy=None):
            raise error

    with pytest.raises(error):
        to_numpy("key", Interrupted())


def test_saved_bfloat16_comes_back(tmp_path):
    np.savez(tmp_path / "a.npz", key=K.astype(ml_dtypes.bfloat16))
    key = np.load(tmp_path / "a.npz")["key"]
    text = text_of(ac.DTypeError, ac.attend, Q, key, V, scorer="dot")
    assert text.endswith("got dtype |V2; bfloat16 saved by NumPy needs .view(ml_dtypes.bfloat16)")
    ac.attend(Q, key.view(ml_dtypes.bfloat16), V, scorer="dot")


@pytest.mark.parametrize(
    "query",
    [
        Q.astype(object),
        Q.astype(np.longdouble),
        Q.astype("U9"),
        Q.astype(ml_dtypes.float8_e5m2),
        Q.astype(int).astype(ml_dtypes.int4),
        [[None, 1.0]],
        [[2**80, 1]],
        Q.astype(int).astype("M8[s]"),
    ],
    ids=lambda array: str(np.asarray(array).dtype),
)
def test_the_advice_of_a_dtype_error_gives_numbers(query):
    if np.asarray(query).dtype == np.float64:
        pytest.skip("long double is double on this platform")
    text = text_of(ac.DTypeError, ac.attend, query, K, V, scorer="dot")
    _, advice = text.split("; convert it with ")
    numbers = eval(
        advice.replace("numpy", "np").replace("...", "query"), {"np": np, "query": query}
    )
    ac.attend(numbers, K, V, scorer="dot")


def test_complex_and_structured_arrays_name_the_conversion():
    text = text_of(ac.DTypeError, ac.attend, Q + 1j, K, V, scorer="dot")
    assert text.endswith("got dtype complex128; take its .real or its .imag")
    pair = np.zeros((4, 3), [("x", float), ("y", float)])
    text = text_of(ac.DTypeError, ac.attend, pair, K, V, scorer="dot")
    assert text.endswith("; call numpy.lib.recfunctions.structured_to_unstructured")
    rows = [scipy.sparse.csr_array(Q[:1])] * 4
    text = text_of(ac.DTypeError, ac.attend, rows, K, V, scorer="dot")
    assert text.endswith("; call .toarray() of its sparse arrays")


@pytest.mark.parametrize("name", ["mask", "bias", "key_lengths", "query_lengths"])
def test_ragged_lists_are_shape_errors(name):
    call = {"query": Q, "key": K, "value": V, name: [[True], [True, False]]}
    assert text_of(ac.ShapeError, ac.attend, **call, scorer="dot") == (
        f"{name} must be an array, got nested lists of different lengths"
    )


# ----------------------------------------------------------------------------- integers of any size

EDGES = [2**power + shift for power in (31, 32, 61, 62, 63, 64) for shift in (-1, 0, 1)]
INTEGERS = st.integers() | st.integers(-20, 20) | st.sampled_from(EDGES)
COUNTS = INTEGERS.map(abs)


@given(st.lists(INTEGERS, max_size=4))
def test_integers_are_clamped(numbers):
    expected = [min(max(n, -LARGEST), LARGEST) for n in numbers]
    given_as = [numbers, tuple(numbers), np.array(numbers, object)]
    if all(0 <= n < 2**64 for n in numbers):
        given_as += [np.array(numbers, np.uint64), [np.uint64(n) for n in numbers]]
    if all(abs(n) < 2**63 for n in numbers):
        given_as += [np.array(numbers, np.int64), np.array(numbers, ">i8")]
    for value in given_as:
        found = as_integers("n", value)
        assert found.dtype == np.int64
        assert found.tolist() == expected


@pytest.mark.parametrize("value", [[1.0], [True], True, "a", ["a"], [None], [2**70, 0.5], [1j]])
def test_other_numbers_are_no_integers(value):
    assert text_of(ac.DTypeError, as_integers, "n", value).startswith("n must be integers, got dt")


@pytest.mark.parametrize("value", [[True, 2], [[1, 2], [3, np.True_]], (2**70, False)])
def test_booleans_among_integers_are_no_integers(value):
    text = text_of(ac.DTypeError, as_integers, "n", value)
    assert text.startswith("n must be integers, got ")


def test_floats_say_how_to_be_integers():
    assert text_of(ac.DTypeError, as_integers, "n", [2.0]) == (
        "n must be integers, got dtype float64; convert it with numpy.asarray(..., dtype=int)"
    )


def allowed_by(offset, window, is_causal, key_lengths, query_lengths):
    """The pairs of 4 queries and 6 keys that are allowed, in Python's integers."""
    left, right = window
    return [
        [
            j < key_lengths
            and i < query_lengths
            and (not is_causal or j <= i + offset)
            and (left is None or i + offset - left <= j)
            and (right is None or j <= i + offset + right)
            for j in range(6)
        ]
        for i in range(4)
    ]


@given(
    INTEGERS,
    st.tuples(st.none() | COUNTS, st.none() | COUNTS),
    st.booleans(),
    COUNTS,
    COUNTS,
    st.booleans(),
    st.booleans(),
)
@example(0, (1, sys.maxsize), False, 6, 4, False, False)
@example(2**61 - 1, (2**61 - 2, 0), True, 6, 4, True, False)
@example(-(2**61) + 1, (2**90, 2**61 + 1), False, 6, 4, False, False)
def test_positions_never_wrap(offset, window, is_causal, keys, queries, per_item, is_sparse):
    options = {
        "query_offset": [offset] if per_item else offset,
        "window": window,
        "is_causal": is_causal,
        "key_lengths": [keys] if per_item else keys,
        "query_lengths": queries,
        "mask": scipy.sparse.csr_array(np.ones((4, 6))) if is_sparse else None,
    }
    arrays = (a[None] for a in (Q, K, V))
    if abs(offset) >= LARGEST:
        text = text_of(ac.OptionError, ac.attend, *arrays, **options, scorer="dot")
        assert text.startswith("query_offset must be between -2**61 and 2**61, got ")
        return
    result = ac.attend(*arrays, **options, scorer="dot")
    weights = result.weights.toarray() if is_sparse else result.weights
    expected = allowed_by(offset, window, is_causal, keys, queries)
    assert (weights > 0).tolist() == [expected]


@given(INTEGERS, st.tuples(st.none() | COUNTS, st.none() | COUNTS))
def test_positions_of_packed_sequences_never_wrap(offset, window):
    packing = ac.Packing([0, 4], [0, 6])
    options = {"query_offset": [offset], "window": window, "mask": packing}
    if abs(offset) >= LARGEST:
        text = text_of(ac.OptionError, ac.attend, Q, K, V, **options, scorer="dot")
        assert text.startswith("query_offset must be between -2**61 and 2**61, got ")
        return
    weights = ac.attend(Q, K, V, **options, scorer="dot").weights
    assert (weights > 0).tolist() == allowed_by(offset, window, False, 6, 4)


@given(INTEGERS, st.tuples(st.none() | COUNTS, st.none() | COUNTS))
def test_configs_and_layers_have_the_same_positions(offset, window):
    options = {"query_offset": offset, "window": list(window), "is_causal": True}
    attention = ac.Attention.from_config({"scorer": {"name": "dot"}, "attention": options})
    layer = ac.MultiHeadAttention.initialize(2, heads=2, rng=0, **options)
    if abs(offset) >= LARGEST:
        text_of(ac.OptionError, attention, Q, K, V)
        text_of(ac.OptionError, layer, Q, K, K)
        return
    expected = allowed_by(offset, window, True, 6, 4)
    assert (attention(Q, K, V).weights > 0).tolist() == expected
    assert (layer(Q, K, K).weights > 0).tolist() == [expected, expected]


def test_unsigned_offsets_and_lengths_of_items():
    arrays = (np.stack([a, a]) for a in (Q, K, V))
    offsets, lengths = np.array([0, 3], np.uint64), np.array([6, 2**64 - 1], np.uint64)
    result = ac.attend(
        *arrays, query_offset=offsets, key_lengths=lengths, is_causal=True, scorer="dot"
    )
    expected = [allowed_by(int(o), (None, None), True, 6, 4) for o in offsets]
    assert (result.weights > 0).tolist() == expected


def test_an_empty_batch_has_empty_lengths():
    arrays = (np.ones((0, *a.shape)) for a in (Q, K, V))
    numbers = {"key_lengths": [], "query_lengths": [], "query_offset": []}
    assert ac.attend(*arrays, **numbers, is_causal=True, scorer="dot").context.shape == (0, 4, 1)


# ------------------------------------------------------------------------------- packed sequences


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.int64, object, ">i4"])
def test_packing_of_lengths_of_any_integer_dtype(dtype):
    packing = ac.Packing.from_lengths(np.array([2, 4], dtype))
    assert packing.query_starts.tolist() == [0, 2, 6]
    assert packing.query_starts.dtype == np.int64


def test_packing_of_many_short_sequences_does_not_wrap():
    packing = ac.Packing.from_lengths(np.full(300, 100, np.uint8))
    assert packing.query_starts[-1] == 30_000


def test_packing_of_no_sequences():
    assert ac.Packing.from_lengths([]).query_starts.tolist() == [0]
    packing = ac.Packing.from_lengths([], [])
    result = ac.attend(Q[:0], K[:0], V[:0], mask=packing, scorer="dot")
    assert result.context.shape == (0, 1)


def test_packing_of_lengths_that_are_none():
    make = ac.Packing.from_lengths
    assert text_of(ac.OptionError, make, [2, -1]) == "query_lengths must be at least 0, got -1"
    assert text_of(ac.ShapeError, make, [2], 3) == "key_lengths must have shape (n,), got ()"
    assert text_of(ac.DTypeError, make, [2.5]) == (
        "query_lengths must be integers, got dtype float64; convert it with "
        "numpy.asarray(..., dtype=int)"
    )
    assert text_of(ac.ShapeError, make, [2**70] * 9).startswith("query_starts must begin at 0")
