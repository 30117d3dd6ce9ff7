"""Named biases: their formulas, their gradients, and checks of third-party biases."""

import math
import pickle
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import reference
import scipy.sparse
from attention_core_standard.biases import (
    AlibiBias,
    RelativeBias,
    T5Bias,
    make_alibi,
    make_relative,
    make_t5,
    standard_slopes,
)

import attention_core as ac
from attention_core.engine import edges

HEADS, L, S = 3, 7, 9


def biases(rng):
    return {
        "alibi": AlibiBias(rng.random(HEADS)),
        "alibi shared": AlibiBias(0.3),
        "alibi one head": AlibiBias([0.3]),
        "relative": RelativeBias(rng.standard_normal((HEADS, 5))),
        "relative shared": RelativeBias(rng.standard_normal(7)),
        "t5": T5Bias(rng.standard_normal((HEADS, 8)), max_distance=6),
        "t5 decoder": T5Bias(rng.standard_normal(4), max_distance=7, is_bidirectional=False),
    }


NAMES = list(biases(np.random.default_rng(0)))


def bucket(distance, buckets, most, is_bidirectional):
    """The bucket of a distance from key to query, from the paper's description."""
    first = 0
    if is_bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    grown = math.log(distance / exact) / math.log(most / exact) * (buckets - exact)
    return first + min(exact + int(grown + 1e-9), buckets - 1)


def element(bias, head, i, j):
    """The number that is added for a pair of positions: (parameter, index, factor)."""
    (name, array), *_ = bias.parameters.items()
    if name == "slopes":
        index, factor = (), -abs(i - j)
    elif isinstance(bias, RelativeBias):
        most = array.shape[-1] // 2
        index, factor = (max(-most, min(j - i, most)) + most,), 1
    else:
        index, factor = (
            (bucket(j - i, array.shape[-1], bias.max_distance, bias.is_bidirectional),),
            1,
        )
    heads = array.shape[: array.ndim - len(index)]
    return name, (*(() if not heads else (head % heads[0],)), *index), factor


def dense(bias, batch, queries, keys):
    """The bias (batch, heads, L, S) of positions, pair by pair."""
    array = np.zeros((batch, HEADS, len(queries), len(keys)))
    for head, (n, i), (m, j) in (
        (h, a, b) for h in range(HEADS) for a in enumerate(queries) for b in enumerate(keys)
    ):
        name, index, factor = element(bias, head, i, j)
        array[:, head, n, m] = factor * bias.parameters[name][index]
    return array


def on(way):
    return mock.patch.object(edges, "prefers_edges", return_value=way == "edges")


OPTIONS = {
    "plain": {},
    "causal": {"is_causal": True, "query_offset": 2},
    "tiles": {"tile": (2, 3), "window": (4, 3), "softcap": 2.0},
    "mask": {"mask": np.random.default_rng(3).random((L, S)) < 0.6},
    "edges": {"mask": scipy.sparse.csr_array(np.random.default_rng(4).random((L, S)) < 0.5)},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_they_are_the_array_of_their_formula(rng, name, options, way):
    bias, options = biases(rng)[name], OPTIONS[options]
    query, key, value = (rng.standard_normal((2, HEADS, n, 4)) for n in (L, S, S))
    offset = options.get("query_offset", 0)
    array = dense(bias, 2, range(offset, offset + L), range(S))
    plain = {k: v for k, v in options.items() if k != "tile"}
    expected = reference.attend(query, key, value, score=reference.dot, bias=array, **plain)
    with on(way):
        result = ac.attend(query, key, value, scorer="dot", bias=bias, **options)
        got = result.vjp(result.context)
        same = ac.attend(query, key, value, scorer="dot", bias=array, **options)
        wanted = same.vjp(result.context)
    np.testing.assert_allclose(result.context, expected.context, atol=1e-12)
    for one, other in zip(got[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    by_pair = np.zeros_like(array) if wanted.bias is None else wanted.bias
    sums = {k: np.zeros(own.shape) for k, own in bias.parameters.items()}
    for (_, head, i, j), grad in np.ndenumerate(by_pair):
        parameter, index, factor = element(bias, head, i + offset, j)
        sums[parameter][index] += factor * grad
    assert got.bias.keys() == sums.keys()
    for parameter, wanted_sum in sums.items():
        np.testing.assert_allclose(got.bias[parameter], wanted_sum, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_slopes_of_the_loss(rng, name):
    bias = biases(rng)[name]
    query, key, value = (rng.standard_normal((HEADS, n, 4)) for n in (L, S, S))
    grad = rng.standard_normal((HEADS, L, 4))

    def loss(vector):
        own = bias.with_parameter_vector(vector)
        return (ac.attend(query, key, value, scorer="dot", bias=own).context * grad).sum()

    start = bias.parameter_vector
    result = ac.attend(query, key, value, scorer="dot", bias=bias, tile=(3, 4))
    (found,) = result.vjp(grad).bias.values()
    for at, step in enumerate(1e-5 * np.eye(len(start))):
        slope = (loss(start + step) - loss(start - step)) / 2e-5
        np.testing.assert_allclose(found.reshape(-1)[at], slope, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_autograd(rng, name):
    torch = pytest.importorskip("torch")
    bias = biases(rng)[name]
    query, key, value = (rng.standard_normal((HEADS, n, 4)) for n in (L, S, S))
    (parameter, array), *_ = bias.parameters.items()
    tensor = torch.tensor(array, requires_grad=True)
    flat = tensor.reshape(-1)
    place = np.zeros((HEADS, L, S), int)
    factors = np.zeros((HEADS, L, S))
    for head, i, j in np.ndindex(place.shape):
        _, index, factors[head, i, j] = element(bias, head, i, j)
        place[head, i, j] = np.ravel_multi_index(index, array.shape) if index else 0
    scores = torch.tensor(query @ key.swapaxes(-1, -2))
    scores = scores + flat[torch.tensor(place)] * torch.tensor(factors)
    (torch.softmax(scores, -1) @ torch.tensor(value)).square().sum().backward()
    result = ac.attend(query, key, value, scorer="dot", bias=bias)
    found = result.vjp(2 * result.context).bias[parameter]
    np.testing.assert_allclose(found, tensor.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_offsets_may_differ_between_batch_items(rng, name):
    bias = biases(rng)[name]
    query, key, value = (rng.standard_normal((2, HEADS, n, 4)) for n in (L, S, S))
    offsets = [1, 4]
    whole = ac.attend(query, key, value, scorer="dot", bias=bias, query_offset=offsets)
    grads = whole.vjp(whole.context).bias
    sums = dict.fromkeys(grads, 0.0)
    for item, offset in enumerate(offsets):
        one = ac.attend(
            query[item], key[item], value[item], scorer="dot", bias=bias, query_offset=offset
        )
        np.testing.assert_allclose(whole.context[item], one.context, atol=1e-12)
        sums = {k: v + one.vjp(one.context).bias[k] for k, v in sums.items()}
    for parameter, grad in grads.items():
        np.testing.assert_allclose(grad, sums[parameter], atol=1e-12)


def test_positions_of_packed_sequences_count_from_their_start(rng):
    bias = RelativeBias(rng.standard_normal(5))
    rows = rng.standard_normal((8, 4))
    packed = ac.attend(rows, rows, rows, scorer="dot", bias=bias, mask=ac.Packing([0, 3, 8]))
    parts = [ac.attend(own, own, own, scorer="dot", bias=bias) for own in (rows[:3], rows[3:])]
    expected = np.concatenate([part.context for part in parts])
    np.testing.assert_allclose(packed.context, expected, atol=1e-12)
    grad = sum(part.vjp(part.context).bias["table"] for part in parts)
    np.testing.assert_allclose(packed.vjp(packed.context).bias["table"], grad, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_bits_depend_on_no_number_of_workers(rng, name):
    bias = biases(rng)[name]
    rows = rng.standard_normal((HEADS, 700, 8)).astype(np.float32)
    one, two = (ac.attend(rows, rows, rows, scorer="dot", bias=bias, workers=n) for n in (1, 2))
    np.testing.assert_array_equal(one.context, two.context)
    for parameter, grad in one.vjp(rows).bias.items():
        np.testing.assert_array_equal(grad, two.vjp(rows).bias[parameter])


def test_a_decoder_step_and_an_empty_call_have_biases(rng):
    bias, x = AlibiBias(0.5), rng.standard_normal((6, 3))
    whole = ac.attend(x, x, x, scorer="dot", bias=bias, is_causal=True)
    step = ac.attend(x[5], x, x, scorer="dot", bias=bias, query_offset=5)
    np.testing.assert_allclose(step.context, whole.context[5], atol=1e-12)
    none = ac.attend(x[:0], x, x, scorer="dot", bias=bias)
    np.testing.assert_array_equal(none.vjp(none.context).bias["slopes"], 0.0)


def test_gradients_have_the_dtype_of_the_parameters(rng):
    bias = RelativeBias(np.zeros((HEADS, 3), np.float32))
    x = rng.standard_normal((HEADS, 5, 4)).astype(np.float16)
    assert ac.attend(x, x, x, scorer="dot", bias=bias).vjp(x).bias["table"].dtype == np.float32


def test_t5_has_the_buckets_of_its_authors():
    torch = pytest.importorskip("torch")
    for buckets, most, both in [(32, 128, True), (32, 128, False), (8, 20, True), (64, 500, False)]:
        distances = torch.arange(-600, 601)
        count, first = buckets, 0
        if both:
            count //= 2
            first = (distances > 0).long() * count
            away = distances.abs()
        else:
            away = -torch.min(distances, torch.zeros_like(distances))
        exact = count // 2
        far = exact + (
            torch.log(away.float() / exact) / math.log(most / exact) * (count - exact)
        ).to(torch.long)
        far = torch.min(far, torch.full_like(far, count - 1))
        expected = first + torch.where(away < exact, away, far)
        bias = T5Bias(np.arange(float(buckets)), most, both)
        np.testing.assert_array_equal(bias.of_distances(distances.numpy()), expected.numpy())


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (1, [2**-8]),
        (8, [2.0**-n for n in range(1, 9)]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
        (12, [2.0**-n for n in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_slopes_are_those_of_the_paper(heads, slopes):
    np.testing.assert_allclose(standard_slopes(heads), slopes, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: make_alibi(), "give slopes, or heads for the standard slopes"),
        (
            lambda: make_alibi(heads=2, slopes=[1.0]),
            "give slopes, or heads for the standard slopes",
        ),
        (
            lambda: AlibiBias([[1.0]]),
            "parameter 'slopes' must have shape (heads,), got shape (1, 1)",
        ),
        (lambda: make_relative(), "give table, or max_distance, and heads for one row per head"),
        (
            lambda: RelativeBias(np.zeros(4)),
            "table must have an odd number of columns, for the distances -K to K, got shape (4,)",
        ),
        (
            lambda: make_t5(table=np.zeros(4), heads=2),
            "give table, or buckets, and heads for one row per head",
        ),
        (
            lambda: T5Bias(np.zeros(5)),
            "table must have at least 4 buckets, an even number, got 5",
        ),
        (
            lambda: T5Bias(np.zeros(32), max_distance=8),
            "max_distance must be above 8, the distances that have a bucket each, got 8",
        ),
    ],
)
def test_errors_of_parameters(make, text):
    with pytest.raises(ac.ScorerConfigError) as caught:
        make()
    assert str(caught.value) == text


def test_heads_that_do_not_fit_are_an_error_before_work():
    x = np.ones((2, 4, 5, 3))
    with pytest.raises(ac.ShapeError) as caught:
        ac.attend(x, x, x, scorer="dot", bias=make_alibi(heads=3))
    assert str(caught.value) == (
        "bias AlibiBias has parameters of shapes (3,), which do not fit scores of batch shape "
        "(2, 4): parameters per head need the last batch axis"
    )


class Broken(ac.Bias):
    """A third-party bias that returns given arrays."""

    def __init__(self, values=0.0, grads=None):
        self.values, self.grads = values, {} if grads is None else grads
        self.calls = 0

    def tile(self, query_positions, key_positions):
        self.calls += 1
        if callable(self.values):
            return self.values(query_positions, key_positions)
        return np.asarray(self.values)

    def tile_vjp(self, query_positions, key_positions, grad):
        if isinstance(self.grads, Exception):
            raise self.grads
        return self.grads


@pytest.mark.parametrize(
    ("bias", "text"),
    [
        (Broken("text"), "returned dtype <U4 from tile; expected real numbers"),
        (Broken(1j), "returned dtype complex128 from tile; expected real numbers"),
        (
            Broken(lambda i, j: np.zeros((i.size, 2))),
            "returned shape (4, 2) from tile for query positions (4, 1) and key positions (1, 4); "
            "expected a shape that broadcasts to (4, 4)",
        ),
        (
            Broken(0.0, [1.0]),
            "returned list from tile_vjp; expected a dict of parameters' gradients",
        ),
        (
            Broken(0.0, {"slope": np.zeros(())}),
            "returned a gradient of 'slope' of shape () from tile_vjp; its parameters: none",
        ),
    ],
)
def test_a_bias_that_breaks_the_contract_is_named(bias, text):
    x = np.eye(4)
    with pytest.raises((ac.ScorerContractError, ac.ShapeError)) as caught:
        ac.attend(x, x, x, scorer="dot", bias=bias).vjp(x)
    if "do not fit scores" not in str(caught.value):
        assert str(caught.value) == f"bias Broken {text}"


def test_exceptions_keep_their_type_and_name_the_bias():
    x = np.eye(4)
    with pytest.raises(KeyError) as caught:
        ac.attend(x, x, x, scorer="dot", bias=Broken(0.0, KeyError("gone"))).vjp(x)
    assert caught.value.__notes__ == [
        "bias Broken raised KeyError in tile_vjp for arrays of shape (4, 1), (1, 4), (4, 4)"
    ]


def test_a_bias_without_gradients_says_what_to_define():
    class Constant(ac.Bias):
        def __init__(self, value):
            self.value = np.asarray(value)

        def tile(self, query_positions, key_positions):
            return self.value

    x = np.eye(3)
    result = ac.attend(x, x, x, scorer="dot", bias=Constant(1.0))
    with pytest.raises(ac.NotDifferentiableError, match="class Constant defines tile without"):
        result.vjp(x)


def test_they_are_values():
    bias = T5Bias(np.zeros((2, 8)), max_distance=20)
    assert bias == T5Bias(np.zeros((2, 8)), 20)
    assert bias != T5Bias(np.zeros((2, 8)), 21)
    assert repr(bias) == "T5Bias(table=float64[2, 8], max_distance=20)"
    assert pickle.loads(pickle.dumps(bias)) == bias
    assert bias.to_config() == {
        "name": "t5", "table": [[0.0] * 8] * 2, "max_distance": 20, "is_bidirectional": True,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "bias", [AlibiBias(0.1), make_relative(max_distance=64), make_t5()], ids=str
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_memory_is_that_of_tiles(rng, bias, is_causal):
    query, key, value = rng.standard_normal((3, 16384, 64)).astype(np.float32)
    tracemalloc.start()
    try:
        result = ac.attend(query, key, value, scorer="dot", bias=bias, is_causal=is_causal)
        result.vjp(value)
        assert tracemalloc.get_traced_memory()[1] <= 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_table_of_a_long_call_learns_in_the_memory_of_tiles(rng):
    query, key, value = rng.standard_normal((3, 32768, 16)).astype(np.float32)
    bias = make_relative(max_distance=128)
    tracemalloc.start()
    try:
        result = ac.attend(query, key, value, scorer="dot", bias=bias)
        (grad,) = result.vjp(value).bias.values()
        assert tracemalloc.get_traced_memory()[1] <= 64 << 20
    finally:
        tracemalloc.stop()
    assert grad.shape == (257,)
    # a constant added to all scores has no effect
    assert abs(grad.sum()) < 1e-3 * abs(grad).sum()


@pytest.mark.parametrize("given", ["alibi", {"name": "alibi", "heads": HEADS}])
def test_they_are_chosen_by_name(rng, given):
    if given == "alibi":
        given = {"name": "alibi", "slopes": 0.5}
    bias = ac.make_bias(**given)
    x = rng.standard_normal((HEADS, 5, 4))
    expected = ac.attend(x, x, x, scorer="dot", bias=bias)
    for result in (
        ac.attend(x, x, x, scorer="dot", bias=given),
        ac.Attention("dot", bias=given)(x, x, x),
        ac.Attention.from_config({"scorer": {"name": "dot"}, "bias": given})(x, x, x),
    ):
        np.testing.assert_array_equal(result.context, expected.context)
    assert {"slopes"} == ac.Attention("dot", bias=given)(x, x, x).vjp(x).bias.keys()


def test_an_attention_has_a_bias_that_a_call_may_replace(rng):
    attention = ac.Attention("dot", bias={"name": "alibi", "slopes": 0.5})
    assert repr(attention) == "Attention(DotScorer(), bias=AlibiBias(slopes=0.5))"
    assert attention == ac.Attention("dot", bias=AlibiBias(0.5))
    assert attention != ac.Attention("dot")
    assert ac.Attention.from_config(attention.to_config()) == attention
    assert attention.to_config()["bias"] == {"name": "alibi", "slopes": 0.5}
    x = rng.standard_normal((5, 4))
    zero = attention(x, x, x, bias=np.zeros((5, 5))).context
    np.testing.assert_array_equal(zero, ac.attend(x, x, x, scorer="dot").context)


def test_names_and_parameters_that_do_not_exist_are_errors():
    x = np.eye(3)
    with pytest.raises(ac.ScorerLookupError, match="no bias named 'alibbi'; did you mean 'alibi'"):
        ac.attend(x, x, x, scorer="dot", bias="alibbi")
    with pytest.raises(ac.ScorerConfigError, match="give slopes, or heads"):
        ac.attend(x, x, x, scorer="dot", bias="alibi")
    with pytest.raises(ac.ConfigError, match="bias"):
        ac.Attention.from_config({"scorer": {"name": "dot"}, "bias": {"name": "t5", "bukets": 3}})


def test_registered_biases_are_chosen_too():
    class Flat(ac.Bias):
        def tile(self, query_positions, key_positions):
            return np.zeros((1, 1))

    registry = ac.Registry.from_entry_points()
    registry.register(ac.BiasSpec(name="flat", factory=Flat))
    config = {"scorer": {"name": "dot"}, "bias": {"name": "flat"}}
    x = np.eye(3)
    result = ac.Attention.from_config(config, registry)(x, x, x)
    np.testing.assert_array_equal(result.context, ac.attend(x, x, x, scorer="dot").context)
    assert result.vjp(x).bias == {}


class Slope(ac.Bias):
    """A bias whose methods return given objects."""

    def __init__(self, tile=None, grad=0.0):
        self.slope, self.returned, self.grad = np.array(1.0), tile, grad

    def tile(self, query_positions, key_positions):
        distances = key_positions - query_positions
        return distances if self.returned is None else self.returned(distances)

    def tile_vjp(self, query_positions, key_positions, grad):
        return {"slope": self.grad}

    @property
    def parameters(self):
        return {"slope": self.slope}


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize(
    ("bias", "text"),
    [
        (Slope(lambda d: np.ma.masked_greater(d, 0)), "a masked array from tile; expected real nu"),
        (Slope(lambda d: 1j * d), "dtype complex128 from tile; expected real numbers"),
        (Slope(grad=np.ma.masked), "a masked array from tile_vjp; expected real numbers"),
        (Slope(grad=1j), "dtype complex128 from tile_vjp; expected real numbers"),
        (Slope(grad="x"), "dtype <U1 from tile_vjp; expected real numbers"),
        (Slope(grad=np.ones(2)), "a gradient of 'slope' of shape (2,) from tile_vjp"),
    ],
)
def test_results_of_a_bias_are_checked(edges, bias, text):
    x = np.eye(3)
    mask = scipy.sparse.csr_array(np.tri(3, 3, 1, bool)) if edges else None
    with pytest.raises(ac.ScorerContractError) as caught:
        ac.attend(x, x, x, scorer="dot", bias=bias, mask=mask).vjp(x)
    assert f"returned {text}" in str(caught.value)


def test_positions_on_edges_may_be_written_to():
    def gap(query_positions, key_positions):
        key_positions -= query_positions[0]
        key_positions += query_positions[0]
        key_positions *= 2
        return key_positions * 0.1

    x = np.arange(12.0).reshape(4, 3) % 5
    mask = scipy.sparse.csr_array(np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool))
    result = ac.attend(x, x, x, scorer="dot", mask=mask, bias=gap)
    expected = ac.attend(x, x, x, scorer="dot", mask=mask.toarray(), bias=lambda i, j: 0.2 * j)
    np.testing.assert_allclose(result.context, expected.context)
    np.testing.assert_allclose(result.weights.toarray(), expected.weights)
