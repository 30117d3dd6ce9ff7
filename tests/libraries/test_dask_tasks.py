"""Guarantees of calls on dask arrays: skipped tasks, errors before any work, dtypes."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from dask.base import tokenize

import attention_core as ac
import attention_core.dask

attend = attention_core.dask.attend


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def chunked(array, *chunks):
    return da.from_array(array, chunks=chunks)


@pytest.fixture
def x(rng):
    return rng.normal(size=(64, 4))


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("computed")

    x = da.ones((8, 4), chunks=(2, 4)).map_blocks(fail, meta=np.empty((0, 0)))
    mask = da.ones((8, 8), chunks=4, dtype=bool).map_blocks(fail, meta=np.empty((0, 0), bool))
    result = attend(x, x, x, scorer="dot", mask=mask, is_causal=True)
    made = result.context, result.log_normalizer, result.weights, result.rows(3), result.top_k(2)
    gradients = result.vjp(x, grad_log_normalizer=x[:, 0])
    assert [array.shape for array in made[:4]] == [(8, 4), (8,), (8, 8), (8,)]
    assert gradients.key.shape == (8, 4)
    with pytest.raises(AssertionError, match="computed"):
        result.context.compute()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 64),
        ({"is_causal": True}, 36),
        ({"is_causal": True, "query_offset": -8}, 28),
        ({"window": (8, 0)}, 15),
        ({"key_lengths": 20}, 24),
        ({"query_lengths": 17}, 24),
        ({"mask": ac.Packing([0, 16, 64])}, 4 + 36),
        ({"mask": ac.Neighborhood(grid=(64,), radius=8)}, 22),
    ],
    ids=str,
)
def test_tasks_out_of_reach_are_left_out(x, options, count):
    lazy = chunked(x, 8, 4)
    result = attend(lazy, lazy, lazy, scorer="dot", **options)
    assert result.task_count == count
    blocks = [key for key in result.context.dask if key[0].startswith("attend-block")]
    assert len(blocks) == count
    whole = ac.attend(x, x, x, scorer="dot", **options)
    np.testing.assert_allclose(result.context.compute(), whole.context, rtol=1e-12, atol=1e-14)


def test_a_sparse_mask_is_cut_into_blocks(rng, x):
    mask = scipy.sparse.random_array((64, 64), density=0.03, rng=rng)
    lazy = chunked(x, 8, 4)
    options = {"scorer": "dot", "mask": mask, "normalizer": ac.Softmax(sink=0.3), "is_causal": True}
    whole, result = ac.attend(x, x, x, **options), attend(lazy, lazy, lazy, **options)
    assert result.task_count < 36
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(result.context.compute(), whole.context, **close)
    np.testing.assert_allclose(result.weights.compute(), whole.weights.toarray(), **close)
    own, other = result.vjp(x), whole.vjp(x)
    np.testing.assert_allclose(own.key.compute(), other.key, **close)
    np.testing.assert_allclose(own.normalizer["sink"].compute(), other.normalizer["sink"], **close)


@pytest.mark.parametrize("normalizer", ["sparsemax", "entmax"])
def test_normalizers_of_whole_rows_take_keys_in_one_chunk(x, normalizer):
    query, keys = chunked(x, 16, 4), chunked(x, -1, 4)
    mask = chunked(np.tri(64, dtype=bool), 10, 64)
    whole = ac.attend(x, x, x, scorer="dot", normalizer=normalizer, mask=np.tri(64, dtype=bool))
    result = attend(query, keys, keys, scorer="dot", normalizer=normalizer, mask=mask)
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(result.context.compute(), whole.context, **close)
    own, other = result.vjp(x), whole.vjp(x)
    for name in ("query", "key", "value"):
        np.testing.assert_allclose(getattr(own, name).compute(), getattr(other, name), **close)


def test_rows_of_any_slice(x):
    lazy = chunked(x, (10, 30, 24), 4)
    whole, result = ac.attend(x, x, x, scorer="dot"), attend(lazy, lazy, lazy, scorer="dot")
    for rows in (slice(5, 50, 7), slice(None, None, -9), slice(3, 3), slice(20, 25), 63, -1):
        expected, found = whole.rows(rows), result.rows(rows)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.compute(), expected, rtol=1e-12)
    chosen = [key for key in result.rows(slice(20, 25)).dask if key[0].startswith("attend-weights")]
    assert len(chosen) == 3  # of 9 pairs of chunks


@pytest.mark.parametrize(
    "ask",
    [
        lambda result: result.rows(64),
        lambda result: result.rows(True),
        lambda result: result.rows(slice(0, 4, 0)),
        lambda result: result.rows(slice(0.5, 4)),
        lambda result: result.top_k(0),
        lambda result: result.top_k(2.0),
        lambda result: result.top_k(1 << 40),
    ],
)
def test_impossible_rows_and_counts_are_the_errors_of_one_machine(x, ask):
    lazy = chunked(x, 32, 4)
    whole, result = ac.attend(x, x, x, scorer="dot"), attend(lazy, lazy, lazy, scorer="dot")
    with pytest.raises(ac.OptionError) as expected:
        ask(whole)
    with pytest.raises(type(expected.value)) as found:
        ask(result)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_dtypes_are_those_of_one_machine(x, dtype):
    array = (3 * x if dtype == "int64" else x).astype(dtype)
    lazy = chunked(array, 8, 4)
    whole, result = (
        ac.attend(array, array, array, scorer="dot"),
        attend(lazy, lazy, lazy, scorer="dot"),
    )
    error = {"float16": 2e-3, "float32": 1e-5, "int64": 1e-12}[dtype]
    grad = np.ones(whole.context.shape)
    pairs = [
        (result.context, whole.context),
        (result.log_normalizer, whole.log_normalizer),
        (result.weights, whole.weights),
        *zip(result.vjp(grad)[:3], whole.vjp(grad)[:3], strict=True),
    ]
    for lazy_array, expected in pairs:
        found = lazy_array.compute()
        assert lazy_array.dtype == found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=error, atol=error)


def test_a_single_query_has_results_without_its_axis(x):
    keys, mask = chunked(x, 8, 4), chunked(np.arange(64) % 3 > 0, 10)
    options = {"scorer": "dot", "bias": x[:, 0]}
    whole = ac.attend(x[0], x, x, mask=mask.compute(), **options)
    result = attend(chunked(x[0], 2), keys, keys, mask=mask, **options)
    np.testing.assert_allclose(result.context.compute(), whole.context, rtol=1e-12)
    np.testing.assert_allclose(result.log_normalizer.compute(), whole.log_normalizer, rtol=1e-12)
    np.testing.assert_allclose(result.weights.compute(), whole.weights, rtol=1e-12)
    np.testing.assert_array_equal(result.top_k(3).indices.compute(), whole.top_k(3).indices)
    own, other = result.vjp(x[0]), whole.vjp(x[0])
    for name in ("query", "key", "value", "bias"):
        np.testing.assert_allclose(
            getattr(own, name).compute(), getattr(other, name), rtol=1e-11, atol=1e-13
        )


@pytest.mark.parametrize(("length", "keys"), [(0, 5), (5, 0), (0, 0)])
def test_no_queries_or_no_keys(length, keys):
    q, k = da.ones((2, length, 3)), da.ones((2, keys, 3))
    result = attend(q, k, k, scorer="dot", is_causal=True)
    assert result.context.compute().shape == (2, length, 3)
    assert not result.context.compute().any()
    assert (result.log_normalizer.compute() == -np.inf).all()
    assert result.weights.compute().shape == (2, length, keys)
    assert result.top_k(2).indices.compute().shape == (2, length, 2)
    assert result.vjp(np.ones((2, length, 3))).key.compute().shape == (2, keys, 3)


def test_scores_far_apart_keep_their_digits(rng):
    # a log-normalizer of 1e9 has only seven decimals; shift and total have all of them
    x = rng.normal(size=(12, 2))
    bias = np.repeat([1e9, 1e9 + 1, 0.0], 4) + np.zeros((12, 1))
    lazy = chunked(x, 3, 2)
    whole = ac.attend(x, x, x, scorer="dot", bias=bias)
    result = attend(lazy, lazy, lazy, scorer="dot", bias=chunked(bias, 3, 3))
    np.testing.assert_allclose(result.context.compute(), whole.context, rtol=1e-12)


def unknown(x):
    return x[x[:, 0] > 0]


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (
            lambda x: ((x, unknown(x), unknown(x)), {}),
            ac.ShapeError,
            "key has chunks of unknown size, got shape (nan, 4); call key.compute_chunk_sizes()",
        ),
        (
            lambda x: ((x, x, x[:3]), {}),
            ac.ShapeError,
            "key (..., S, Dk) and value (..., S, Dv) must agree on S, got key (64, 4) and value "
            "(3, 4)",
        ),
        (
            lambda x: ((x, x, x), {"mask": x}),
            ac.DTypeError,
            "mask must be boolean (True = may attend), got dtype float64; to add numbers to the "
            "scores use bias=, to keep nonzero entries use mask != 0",
        ),
        (
            lambda x: ((x, x, x), {"key_lengths": x[0]}),
            ac.OptionTypeError,
            "key_lengths must be known before any task is made, got a dask collection; give "
            "key_lengths.compute()",
        ),
        (
            lambda x: ((x, x, x), {"normalizer": ac.make_normalizer("sparsemax")}),
            ac.OptionError,
            f"normalizer 'sparsemax' (attention-core {ac.__version__}) needs all scores of a query "
            "together, and the keys are in 8 chunks; make it one: key.rechunk({-2: -1}), likewise "
            "for value, and for a mask or bias rechunk({-1: -1})",
        ),
        (
            lambda x: ((da.ma.masked_less(x, 0), x, x), {}),
            ac.DTypeError,
            "query must consist of NumPy arrays, got chunks of numpy.ma.MaskedArray; convert them "
            "with query.map_blocks",
        ),
        (
            lambda x: ((x, ac.Attention("dot").memory(np.ones((2, 4)), np.ones((2, 4))), x), {}),
            ac.OptionTypeError,
            "key must be an array: a Memory is in the memory of one machine",
        ),
    ],
)
def test_errors_come_before_any_work(x, arguments, kind, text):
    arrays, options = arguments(chunked(x, 8, 4))
    with pytest.raises(kind) as raised:
        attend(*arrays, **{"scorer": "dot", **options})
    assert str(raised.value) == text


def test_other_collections_are_named(x):
    with pytest.raises(ac.DTypeError) as raised:
        attend(chunked(x, 8, 4), dask.delayed(x), x, scorer="dot")
    assert str(raised.value) == "key must be a dask array, got a dask DelayedLeaf"


PLANNED = """
import dask.array as da
import attention_core.dask
x = da.ones((8, 2), chunks=(2, 2))
attention_core.dask.attend(x, x, x, scorer="dot")
"""


def test_arrays_of_query_planning_are_refused():
    done = subprocess.run(
        [sys.executable, "-c", PLANNED],
        env=os.environ | {"DASK_ARRAY__QUERY_PLANNING": "True"},
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == (
        "attention_core.errors.DTypeError: query is an array of Dask's query planning, which has "
        "no graph of tasks yet; call dask.config.set({'array.query-planning': False}) before "
        "dask.array is imported"
    )


def test_sparse_numbers_are_refused(x):
    lazy = chunked(x, 8, 4)
    with pytest.raises(ac.OptionTypeError) as raised:
        attend(lazy, lazy, lazy, scorer="dot", bias=scipy.sparse.eye_array(64))
    assert str(raised.value) == (
        "bias must not be sparse on dask arrays, got dia_array; give a dask array, or a function "
        "of (query_positions, key_positions)"
    )


def test_gradients_are_checked_before_any_work(x):
    result = attend(chunked(x, 8, 4), x, x, scorer="dot")
    with pytest.raises(ac.ShapeError) as raised:
        result.vjp(x[:3])
    assert str(raised.value) == (
        "grad_context must have the shape of the context, (64, 4), got (3, 4)"
    )
    with pytest.raises(ac.OptionTypeError) as raised:
        result.vjp()
    assert str(raised.value) == "give grad_context or grad_log_normalizer"
    sigmoid = attend(chunked(x, 8, 4), x, x, scorer="dot", normalizer="sigmoid")
    with pytest.raises(ac.OptionError, match="has no log_normalizer"):
        sigmoid.log_normalizer


TOKENS = """
import numpy as np
from dask.base import tokenize
import attention_core as ac
parts = [
    ac.make_scorer("general", weight=np.arange(12.0).reshape(3, 4)),
    ac.make_scorer("additive", query_dim=3, key_dim=4, hidden_dim=5, rng=0),
    ac.make_scorer("gaussian", scale=[1.0, 2.0]),
    ac.Softmax(sink=0.5), ac.make_normalizer("entmax", alpha=1.3),
    ac.make_bias("alibi", heads=4), ac.make_bias("relative", max_distance=3),
    ac.Dropout(0.1, seed=3), ac.Neighborhood(grid=(4, 4), radius=1), ac.Packing([0, 3]),
]
print([tokenize(part, ensure_deterministic=True) for part in parts])
"""


def test_tokens_of_components_are_the_same_in_every_process():
    runs = [
        subprocess.run([sys.executable, "-c", TOKENS], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, other = (run.stdout for run in runs)
    assert first == other
    assert len(set(eval(first))) == 10


def test_tokens_tell_large_arrays_apart():
    # which NumPy shows in the same way
    one = np.zeros((60, 60))
    other = one.copy()
    other[30, 30] = 1
    tokens = {tokenize(ac.make_scorer("general", weight=weight)) for weight in (one, other)}
    assert len(tokens) == 2


def test_names_follow_from_the_arguments(x):
    lazy = chunked(x, 8, 4)

    def named(**options):
        return attend(lazy, lazy, lazy, **{"scorer": "dot", **options}).context.name

    assert named() == named()
    different = [
        *({}, {"scorer": ac.make_scorer("scaled_dot", scale=0.1)}, {"is_causal": True}),
        *({"mask": np.tri(64, dtype=bool)}, {"softcap": 2.0}),
        {"normalizer": ac.Softmax(sink=0.0)},
    ]
    assert len({named(**options) for options in different}) == len(different)


def test_attend_leaves_dask_arrays_to_dask(x):
    lazy = chunked(x, 8, 4)
    options = {"is_causal": True, "window": (20, 0), "softcap": 3.0, "normalizer": ac.Softmax(0.5)}
    terms = {"mask": np.tri(64, dtype=bool), "key_lengths": 50}
    whole = ac.attend(x, x, x, scorer="dot", **options, **terms).context
    here = ac.attend(lazy, lazy, lazy, scorer="dot", **options, **terms)
    configured = ac.Attention("dot", **options, query_offset=3)
    there = configured(lazy, lazy, lazy, query_offset=0, **terms)
    assert isinstance(here, attention_core.dask.DaskResult)
    assert here.context.name == there.context.name
    np.testing.assert_allclose(here.context.compute(), whole, rtol=1e-12, atol=1e-13)
    whole = configured(x, x, x).context
    np.testing.assert_allclose(configured(lazy, lazy, lazy).context.compute(), whole, rtol=1e-12)


def test_components_are_chosen_by_name(x):
    lazy = chunked(x, 8, 4)
    named = {
        "scorer": {"name": "scaled_dot", "scale": 0.3},
        "normalizer": {"name": "softmax", "sink": 0.2},
        "bias": {"name": "relative", "max_distance": 3},
    }
    whole, result = ac.attend(x, x, x, **named), ac.attend(lazy, lazy, lazy, **named)
    np.testing.assert_allclose(result.context.compute(), whole.context, rtol=1e-12)
    configured = ac.Attention(**named)(lazy, lazy, lazy)
    assert configured.context.name == result.context.name
    own, other = result.vjp(x), whole.vjp(x)
    for found, expected in (
        (own.bias["table"], other.bias["table"]),
        (own.normalizer["sink"], other.normalizer["sink"]),
    ):
        np.testing.assert_allclose(found.compute(), expected, rtol=1e-11, atol=1e-12)


def test_memories_and_layers_say_what_to_do_instead(x):
    lazy, layer = chunked(x, 8, 4), ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    for call in (layer.memory, ac.Attention("dot").memory):
        with pytest.raises(ac.OptionTypeError) as raised:
            call(lazy, lazy)
        assert str(raised.value) == (
            "a Memory holds keys in the memory of one machine, got dask arrays; attend to the "
            "arrays themselves, whose chunks stay where they are, or give key.compute() and "
            "value.compute()"
        )
    with pytest.raises(ac.OptionTypeError) as raised:
        layer(lazy, lazy, lazy)
    assert str(raised.value) == (
        "MultiHeadAttention takes no dask arrays; project them with Dask, put the heads on a batch "
        "axis, and call attention_core.dask.attend"
    )


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_results_can_be_copied_and_pickled(x, way):
    lazy = chunked(x, 8, 4)
    result = attend(lazy, lazy, lazy, scorer="dot", is_causal=True)
    copied = way(result)
    assert (
        repr(copied)
        == repr(result)
        == ("DaskResult(context (64, 4), float64, 36 tasks of 8 x 8 chunks, DotScorer())")
    )
    assert repr(result.vjp(lazy)) == (
        "DaskGradients(query=float64[64, 4], key=float64[64, 4], value=float64[64, 4], "
        "bias=None, parameters={}, normalizer={})"
    )
    for made in (lambda it: it, lambda it: it.top_k(2), lambda it: it.vjp(lazy)):
        own, other = dask.compute(way(made(result)), made(copied))
        if made(result) is result:
            own, other = own.context.compute(), other.context.compute()
        for one, two in zip(own, other, strict=True):
            np.testing.assert_equal(one, two)


def test_it_says_what_to_install_without_dask():
    code = "import sys; sys.modules['dask'] = None\nimport attention_core.dask"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "attention_core.errors.MissingExtraError: attention_core.dask needs Dask and its arrays: "
        "pip install 'attention-core[dask]'"
    )


def test_masked_entries_of_a_chunk_are_noticed_when_it_is_there():
    x = da.ones((4, 2), chunks=(2, 2))
    hidden = x.map_blocks(lambda block: np.ma.masked_array(block, block > 0), meta=np.ones((0, 0)))
    context = ac.attend(x, hidden, x, scorer="dot").context
    with pytest.raises(ac.DTypeError, match=r"^key has masked entries \(numpy.ma\)"):
        context.compute(scheduler="sync")
