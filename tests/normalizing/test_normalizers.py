"""Normalizers against dense formulas in float64, on tiles, on edges and in one tile."""

import copy
import math
import pickle
from unittest import mock

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_core as ac
from attention_core.engine import edges

NORMALIZERS = {
    "softmax": {},
    "sink": {"name": "softmax", "sink": 0.3},
    "sigmoid": {"name": "sigmoid", "offset": -0.5},
    "sparsemax": {},
    "entmax": {},
    "entmax 1.2": {"name": "entmax", "alpha": 1.2},
    "entmax 3": {"name": "entmax", "alpha": 3.0},
}


def made(name):
    return ac.make_normalizer(**{"name": name, **NORMALIZERS[name]})


def entmax_row(scores, alpha):
    """The weights by bisection on the threshold, in plain Python."""
    finite = [s for s in scores if s > -math.inf]
    if not finite:
        return [0.0] * len(scores)
    z = [(alpha - 1) * s for s in scores]

    def weights(t):
        return [max(s - t, 0.0) ** (1 / (alpha - 1)) if s > t else 0.0 for s in z]

    top = max(z)
    low, high = top - 1, top
    for _ in range(200):
        middle = (low + high) / 2
        if sum(weights(middle)) >= 1:
            low = middle
        else:
            high = middle
    return weights(low)


def dense_row(name, scores):
    """The weights of one row of masked scores, from the definition."""
    parameters = NORMALIZERS[name]
    if name == "sigmoid":
        return [1 / (1 + math.exp(-(s - 0.5))) if s > -math.inf else 0.0 for s in scores]
    if "max" in name and name.startswith(("entmax", "sparsemax")):
        return entmax_row(scores, 2.0 if name == "sparsemax" else parameters.get("alpha", 1.5))
    if max(scores, default=-math.inf) == -math.inf:
        return [0.0] * len(scores)
    top = max(scores)
    total = sum(math.exp(s - top) for s in scores)
    if "sink" in parameters:
        total += math.exp(parameters["sink"] - top)
    return [math.exp(s - top) / total for s in scores]


def dense(name, scores):
    flat = scores.reshape(-1, scores.shape[-1])
    rows = [dense_row(name, row.tolist()) for row in flat]
    return np.array(rows, np.float64).reshape(scores.shape)


def rows_of_scores(rng, ties):
    """Scores (5, 7): the dot scores of themselves as queries with the identity as keys."""
    scores = rng.normal(0, 3, (5, 7))
    return np.round(scores) if ties else scores


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("way", ["one tile", "tiles", "edges", "packed"])
def test_weights_are_those_of_the_definition(rng, name, ties, way):
    scores = rows_of_scores(rng, ties)
    mask = rng.random((5, 7)) < 0.7
    mask[2] = False
    query, key, value = scores, np.eye(7), rng.normal(size=(7, 3))
    options = {"mask": mask}
    if way == "tiles":
        options["tile"] = (2, 3)
    elif way == "edges":
        options = {"mask": ac_sparse(mask)}
    elif way == "packed":
        packing = ac.Packing([0, 2, 5], [0, 3, 7])
        mask = np.zeros((5, 7), bool)
        mask[:2, :3] = mask[2:, 3:] = True
        options = {"mask": packing}
    result = ac.attend(query, key, value, scorer="dot", normalizer=made(name), **options)
    expected = dense(name, np.where(mask, scores, -np.inf))
    weights = result.weights.toarray() if way == "edges" else result.weights
    np.testing.assert_allclose(weights, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(result.context, expected @ value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(result.key_mass, expected.sum(0), rtol=1e-9, atol=1e-10)
    logs = np.log(expected, out=np.zeros_like(expected), where=expected != 0)
    np.testing.assert_allclose(result.entropy, -(expected * logs).sum(-1), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(result.top_k(1).weights[:, 0], expected.max(-1), atol=1e-10)


def ac_sparse(mask):
    from scipy.sparse import csr_array

    return csr_array(mask)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-50, 50), st.just(-math.inf), st.sampled_from([0.0, 1.0, 1.0])),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(sorted(NORMALIZERS)),
)
def test_rows_of_any_scores(scores, name):
    normalizer, row = made(name), np.array([scores])
    if name == "sink":  # which is applied at the end of the row
        result = ac.attend(
            np.where(np.isfinite(row), row, 0),
            np.eye(len(scores)),
            np.eye(len(scores)),
            scorer="dot",
            normalizer=normalizer,
            mask=np.isfinite(row),
        )
        weights = result.weights
    else:
        weights = normalizer.weights(row.copy(), normalizer.statistics(row))
    expected = dense(name, row)
    # bisection in the oracle leaves roots of the last interval
    np.testing.assert_allclose(weights, expected, atol=1e-7 if name == "entmax 3" else 1e-10)


def test_published_values():
    # Martins and Astudillo 2016: sparsemax of t and 0 is linear between (0, 1) and (1, 0)
    scores = np.array([[0.5, 0.0], [2.0, 0.0], [-0.25, 0.0]])
    sparsemax = ac.make_normalizer("sparsemax")
    np.testing.assert_allclose(
        sparsemax.weights(scores.copy(), sparsemax.statistics(scores)),
        [[0.75, 0.25], [1.0, 0.0], [0.375, 0.625]],
        atol=1e-15,
    )
    # Peters et al. 2019: 1.5-entmax of t and 0 in closed form, p = (1/2 + t/8 sqrt(8/... )) solved
    entmax = ac.make_normalizer("entmax", alpha=1.5)
    for t in (0.1, 0.7, 1.3):
        row = np.array([[t, 0.0]])
        (got,) = entmax.weights(row.copy(), entmax.statistics(row))

        def excess(p, t=t):
            return 2 * (math.sqrt(p) - math.sqrt(1 - p)) - t

        exact = scipy.optimize.brentq(excess, 0.5, 1.0) if excess(1.0) > 0 else 1.0
        np.testing.assert_allclose(got, [exact, 1 - exact], atol=1e-10)


def test_a_sink_scales_the_context(rng):
    query, key, value = rng.normal(size=(3, 6, 4))
    plain = ac.attend(query, key, value, scorer="dot")
    sink = 1.7
    result = ac.attend(
        query, key, value, scorer="dot", normalizer={"name": "softmax", "sink": sink}
    )
    factor = 1 / (1 + np.exp(sink - plain.log_normalizer))
    np.testing.assert_allclose(result.context, plain.context * factor[:, None], rtol=1e-12)
    np.testing.assert_allclose(
        result.log_normalizer, np.logaddexp(plain.log_normalizer, sink), rtol=1e-12
    )


@pytest.mark.parametrize("tile", [None, (2, 3)])
def test_a_sink_of_minus_infinity_is_plain_softmax_bit_for_bit(rng, tile):
    query, key, value = rng.normal(size=(3, 2, 9, 4))
    plain = ac.attend(query, key, value, scorer="dot", tile=tile)
    normalizer = ac.Softmax(sink=-np.inf)
    result = ac.attend(query, key, value, scorer="dot", tile=tile, normalizer=normalizer)
    np.testing.assert_array_equal(result.context, plain.context)
    np.testing.assert_array_equal(result.weights, plain.weights)
    assert result.vjp(result.context).normalizer["sink"] == 0


@pytest.mark.parametrize("sink", [-800.0, 800.0, 0.0])
@pytest.mark.parametrize("tile", [None, (20, 20)])
def test_a_sink_of_any_size(rng, sink, tile):
    query, key, value = rng.normal(size=(3, 40, 4))
    result = ac.attend(query, key, value, scorer="dot", normalizer=ac.Softmax(sink), tile=tile)
    lse = ac.attend(query, key, value, scorer="dot").log_normalizer
    np.testing.assert_allclose(result.log_normalizer, np.logaddexp(lse, sink), rtol=1e-12)
    assert np.isfinite(result.context).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("way", ["tiles", "edges"])
@pytest.mark.parametrize(("sink", "weight"), [(1.7e308, 0), (-1.7e308, 1)])
def test_a_sink_that_the_dtype_does_not_hold(dtype, way, sink, weight):
    x = np.ones((3, 2), dtype)
    mask = (
        scipy.sparse.csr_array(np.eye(3, dtype=bool)) if way == "edges" else np.eye(3, dtype=bool)
    )
    result = ac.attend(x, x, x, scorer="dot", normalizer=ac.Softmax(sink), mask=mask)
    np.testing.assert_array_equal(result.context, weight * x)
    gradients = result.vjp(x)
    assert gradients.normalizer["sink"] == 0
    assert all(np.isfinite(gradient).all() for gradient in gradients[:3])


@pytest.mark.parametrize(("alpha", "dtype"), [(1.001, "f4"), (1.001, "f8"), (1e3, "f4")])
def test_entmax_at_its_limits(rng, alpha, dtype):
    scores = rng.normal(size=(4, 5)).astype(dtype)
    entmax = ac.make_normalizer("entmax", alpha=alpha)
    result = ac.attend(scores, np.eye(5, dtype=dtype), np.eye(5), scorer="dot", normalizer=entmax)
    error = np.finfo(dtype).eps / (alpha - 1) + np.finfo(dtype).eps
    for weights, row in zip(result.weights, scores.tolist(), strict=True):
        np.testing.assert_allclose(weights, entmax_row(row, alpha), rtol=5 * error, atol=1e-14)


def gradient_case(rng):
    query, key, value = (
        rng.normal(size=(2, 5, 3)),
        rng.normal(size=(2, 6, 3)),
        rng.normal(size=(2, 6, 2)),
    )
    return query, key, value, rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 5, 6))


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("way", ["one tile", "tiles", "edges"])
def test_gradients_are_finite_differences(rng, name, way):
    query, key, value, grad, grad_weights = gradient_case(rng)
    options = {"is_causal": True, "query_offset": 1, "softcap": 5.0}
    if way == "tiles":
        options["tile"] = (2, 2)
    elif way == "edges":
        options["mask"] = ac_sparse(np.tri(5, 6, 2, dtype=bool))
    heads = np.array([0.3, -0.2])  # one sink for each batch item
    normalizer = ac.Softmax(heads) if name == "sink" else made(name)

    def attend(q, k, v, n):
        return ac.attend(q, k, v, scorer="scaled_dot", normalizer=n, **options)

    def loss(q, k, v, n):
        result = attend(q, k, v, n)
        weights = result.weights
        weights = weights.toarray() if hasattr(weights, "toarray") else weights
        if hasattr(weights, "todense"):
            weights = weights.todense()
        return (result.context * grad).sum() + (np.asarray(weights) * grad_weights).sum()

    found = attend(query, key, value, normalizer).vjp(grad, grad_weights=grad_weights)
    for position, array in enumerate((query, key, value)):
        for index in [(0, 0, 0), (1, 4, 1), (0, 3, 1)]:
            arrays = [query, key, value]
            differences = []
            for step in (1e-5, -1e-5):
                moved = array.copy()
                moved[index] += step
                arrays[position] = moved
                differences.append(loss(*arrays, normalizer))
            slope = (differences[0] - differences[1]) / 2e-5
            np.testing.assert_allclose(found[position][index], slope, rtol=1e-5, atol=1e-7)
    if name == "sink":
        for head in (0, 1):
            step = np.eye(2)[head] * 1e-5
            up, down = (loss(query, key, value, ac.Softmax(heads + s)) for s in (step, -step))
            np.testing.assert_allclose(
                found.normalizer["sink"][head], (up - down) / 2e-5, rtol=1e-6, atol=1e-8
            )


@pytest.mark.parametrize("tile", [None, (2, 2)])
@pytest.mark.parametrize("sink", [None, 0.4])
def test_gradients_through_the_log_normalizer(rng, tile, sink):
    query, key, value, _, _ = gradient_case(rng)
    grad = rng.normal(size=(2, 5))
    normalizer = ac.Softmax(sink)

    def loss(q, n=normalizer):
        return (ac.attend(q, key, value, scorer="dot", normalizer=n).log_normalizer * grad).sum()

    result = ac.attend(query, key, value, scorer="dot", normalizer=normalizer, tile=tile)
    found = result.vjp(grad_log_normalizer=grad)
    step = np.zeros_like(query)
    step[1, 2, 0] = 1e-6
    slope = (loss(query + step) - loss(query - step)) / 2e-6
    np.testing.assert_allclose(found.query[1, 2, 0], slope, rtol=1e-6)
    assert not found.value.any()
    if sink is not None:
        slope = (loss(query, ac.Softmax(sink + 1e-6)) - loss(query, ac.Softmax(sink - 1e-6))) / 2e-6
        np.testing.assert_allclose(found.normalizer["sink"], slope, rtol=1e-6)


@pytest.mark.parametrize("sink", [0.4, [0.4, -2.0], [[0.4, -2.0], [1.0, 3.0]]])
def test_a_sink_on_edges_is_that_on_tiles(rng, sink):
    query, key, value, grad = rng.normal(size=(4, 2, 2, 30, 4))
    mask = rng.random((30, 30)) < 0.1
    mask[7] = False
    options = {"scorer": "dot", "normalizer": ac.Softmax(sink)}
    with mock.patch.object(edges, "prefers_edges", return_value=True):
        got = ac.attend(query, key, value, mask=ac_sparse(mask), **options)
        gradients = got.vjp(grad)
    expected = ac.attend(query, key, value, mask=mask, **options)
    wanted = expected.vjp(grad)
    np.testing.assert_allclose(got.context, expected.context, atol=1e-12)
    np.testing.assert_allclose(got.log_normalizer, expected.log_normalizer, atol=1e-12)
    for one, other in zip(gradients[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    np.testing.assert_allclose(gradients.normalizer["sink"], wanted.normalizer["sink"], atol=1e-12)


def test_functions_may_give_the_gradient_of_the_weights(rng):
    query, key, value, grad, _ = gradient_case(rng)
    result = ac.attend(query, key, value, scorer="dot", query_offset=3)
    i, j = np.arange(3, 8)[:, None], np.arange(6)
    function = result.vjp(grad, grad_weights=lambda i, j: np.sin(i - 2 * j))
    array = result.vjp(grad, grad_weights=np.sin(i - 2 * j))
    for one, other in zip(function[:3], array[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("way", ["one tile", "tiles", "edges"])
def test_masked_nan_leaks_nowhere(rng, name, way):
    query, key, value, grad, _ = gradient_case(rng)
    mask = np.ones((5, 6), bool)
    mask[:, 5] = False
    mask[3] = False
    key[0, 5], value[1, 5], query[0, 3] = np.nan, np.inf, np.nan
    options = {"mask": ac_sparse(mask) if way == "edges" else mask}
    if way == "tiles":
        options["tile"] = (2, 2)
    result = ac.attend(query, key, value, scorer="dot", normalizer=made(name), **options)
    assert np.isfinite(result.context).all()
    assert not result.context[:, 3].any()
    found = result.vjp(grad)
    assert all(np.isfinite(array).all() for array in found[:3])
    assert not found.query[:, 3].any()


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dtypes_stay(rng, name, dtype):
    query, key, value = rng.normal(size=(3, 6, 4)).astype(dtype)
    result = ac.attend(query, key, value, scorer="dot", normalizer=made(name))
    exact = ac.attend(
        *(a.astype(float) for a in (query, key, value)), scorer="dot", normalizer=made(name)
    )
    assert result.context.dtype == result.weights.dtype == dtype
    np.testing.assert_allclose(
        result.context, exact.context, atol=5e-3 if dtype == np.float16 else 1e-5
    )


@pytest.mark.parametrize("name", NORMALIZERS)
def test_they_are_values(name):
    one = made(name)
    for other in (
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
        ac.make_normalizer(**one.to_config()),
    ):
        assert other == one
        assert repr(other) == repr(one)
    assert " at 0x" not in repr(one)
    attention = ac.Attention("dot", normalizer=one)
    again = ac.Attention.from_config(attention.to_config())
    assert again == attention
    assert again.normalizer == one


def test_memories_take_any(rng):
    attention = ac.Attention("dot", normalizer="entmax", is_causal=True, query_offset="end")
    x = rng.normal(size=(5, 3))
    memory = attention.memory(x[:3], x[:3])
    memory.append(x[3:], x[3:])
    np.testing.assert_allclose(
        attention(x[4], memory).weights, attention(x, x, x).weights[4], atol=1e-12
    )


def test_the_same_bits_for_any_workers(rng):
    x = rng.normal(size=(4, 600, 8)).astype(np.float32)
    for name in ("sink", "sigmoid", "entmax"):
        contexts = [
            ac.attend(x, x, x, scorer="dot", normalizer=made(name), workers=workers).context
            for workers in (1, 2, 3)
        ]
        assert all(np.array_equal(contexts[0], other) for other in contexts[1:])


class Halved(ac.Normalizer):
    """A third-party normalizer of two methods: half of plain softmax."""

    empty = (0.0, 0.0)

    def statistics(self, scores):
        top = scores.max(-1, keepdims=True, initial=-np.inf)
        top = np.where(top == -np.inf, 0, top)
        return top, np.exp(scores - top).sum(-1, keepdims=True)

    def weights(self, scores, statistics):
        top, total = statistics
        return np.divide(np.exp(scores - top), 2 * np.where(total == 0, 1, total), out=scores)


def test_a_third_party_normalizer_streams_masks_and_says_that_it_has_no_gradients(rng):
    x = rng.normal(size=(2, 9, 4))
    for options in ({}, {"tile": (4, 3)}, {"mask": ac_sparse(np.tri(9, dtype=bool))}):
        plain = ac.attend(x, x, x, scorer="dot", **options)
        half = ac.attend(x, x, x, scorer="dot", normalizer=Halved(), **options)
        np.testing.assert_allclose(half.context, plain.context / 2, rtol=1e-12)
    with pytest.raises(ac.NotDifferentiableError, match=r"define scores_vjp"):
        half.vjp(x)
    with pytest.raises(ac.OptionError, match="has no log_normalizer"):
        _ = half.log_normalizer


ERRORS = [
    ({"name": "entmax", "alpha": 1.0}, ac.ScorerConfigError, "alpha must be at least 1.001"),
    ({"name": "entmax", "alpha": 1e300}, ac.ScorerConfigError, "alpha must be at most 1000"),
    ({"name": "entmax", "alpha": "2"}, ac.ScorerConfigError, "alpha must be"),
    ({"name": "sigmoid", "offset": np.nan}, ac.ScorerConfigError, "offset must be"),
    ({"name": "softmax", "sink": np.nan}, ac.ScorerConfigError, "sink must hold numbers"),
    ({"name": "softmax", "sinks": 1}, ac.ScorerConfigError, "did you mean 'sink'"),
    ("sofmax", ac.UnknownScorerError, "no normalizer named 'sofmax'; did you mean 'softmax'"),
    (3, ac.OptionTypeError, "normalizer must be a name"),
    (
        {"name": "softmax", "sink": [1.0, 2.0, 3.0]},
        ac.ShapeError,
        r"sink must broadcast to the batch",
    ),
]


@pytest.mark.parametrize(("normalizer", "error", "text"), ERRORS, ids=str)
def test_errors(normalizer, error, text):
    x = np.zeros((2, 4, 3))
    with pytest.raises(error, match=text):
        ac.attend(x, x, x, scorer="dot", normalizer=normalizer)
