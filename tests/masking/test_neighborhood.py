"""Neighborhoods on grids, against masks written by loops over coordinates."""

import copy
import itertools
import pickle
from unittest import mock

import numpy as np
import pytest
import reference

import attention_core as ac
from attention_core.engine import edges
from attention_core.masking.neighbors import Neighbors

HOODS = [
    ac.Neighborhood(grid=(7,), radius=2),
    ac.Neighborhood(grid=(30,), radius=0),
    ac.Neighborhood(grid=(40,), radius=3, dilation=4, is_causal=True),
    ac.Neighborhood(grid=(5, 6), radius=1),
    ac.Neighborhood(grid=(6, 5), radius=(1, 2), dilation=(2, 1)),
    ac.Neighborhood(grid=(4, 9), radius=(3, 1), dilation=(1, 3), is_causal=(True, False)),
    ac.Neighborhood(grid=(1, 8), radius=(5, 2), is_causal=(False, True)),
    ac.Neighborhood(grid=(3, 4, 5), radius=(1, 0, 2), dilation=(1, 1, 2)),
    ac.Neighborhood(grid=(4, 3, 4), radius=1, is_causal=True),
    ac.Neighborhood(grid=(2, 2, 30), radius=(1, 1, 3)),
]


def dense(hood, length=None, keys=None, offset=0):
    """The mask from its definition, position by position."""
    places = list(itertools.product(*map(range, hood.grid)))
    queries = places[offset:][:length]
    mask = np.zeros((len(queries), len(places[:keys])), bool)
    for (i, query), (j, key) in itertools.product(enumerate(queries), enumerate(places[:keys])):
        mask[i, j] = all(
            abs(b - a) <= radius * dilation
            and (b - a) % dilation == 0
            and not (is_causal and b > a)
            for a, b, radius, dilation, is_causal in zip(
                query, key, hood.radius, hood.dilation, hood.is_causal, strict=True
            )
        )
    return mask


def on(way):
    return mock.patch.object(edges, "prefers_edges", return_value=way == "edges")


@pytest.mark.parametrize("hood", HOODS, ids=repr)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_weights_scores_context_and_gradients_are_those_of_the_dense_mask(rng, hood, way):
    size = int(np.prod(hood.grid))
    query, key, value = rng.standard_normal((3, 2, size, 4))
    mask = dense(hood)
    expected = reference.attend(query, key, value, score=reference.scaled_dot(), mask=mask)
    with on(way):
        result = ac.attend(query, key, value, scorer="scaled_dot", mask=hood)
        got = result.vjp(value)
    np.testing.assert_allclose(result.context, expected.context, atol=1e-12)
    np.testing.assert_allclose(result.weights.toarray(), expected.weights, atol=1e-12)
    np.testing.assert_allclose(result.entropy, expected.entropy, atol=1e-12)
    np.testing.assert_allclose(result.log_normalizer, expected.log_normalizer, atol=1e-12)
    assert result.scores.nnz == 2 * mask.sum()
    plain = ac.attend(query, key, value, scorer="scaled_dot", mask=mask).vjp(value)
    for one, other in zip(got[:3], plain[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("hood", HOODS, ids=repr)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_it_combines_with_every_other_option(rng, hood, way):
    size = int(np.prod(hood.grid))
    query, key, value = rng.standard_normal((3, 2, size, 3))
    options = {
        "is_causal": True,
        "window": (9, 0),
        "key_lengths": np.array([size, size // 2]),
        "bias": rng.standard_normal((size, size)),
        "softcap": 3.0,
    }
    expected = reference.attend(query, key, value, score=reference.dot, mask=dense(hood), **options)
    with on(way):
        result = ac.attend(query, key, value, scorer="dot", mask=hood, **options)
    np.testing.assert_allclose(result.context, expected.context, atol=1e-12)
    np.testing.assert_allclose(result.weights.toarray(), expected.weights, atol=1e-12)


@pytest.mark.parametrize("hood", HOODS, ids=repr)
@pytest.mark.parametrize("way", ["edges", "tiles"])
def test_queries_may_begin_inside_the_grid_and_keys_end_before_it_does(rng, hood, way):
    size = int(np.prod(hood.grid))
    offset, length, keys = size // 3, size // 2, size - 1
    query = rng.standard_normal((length, 3))
    key, value = rng.standard_normal((2, keys, 3))
    mask = dense(hood, length, keys, offset)
    expected = ac.attend(query, key, value, scorer="dot", mask=mask)
    with on(way):
        result = ac.attend(query, key, value, scorer="dot", mask=hood, query_offset=offset)
    np.testing.assert_allclose(result.context, expected.context, atol=1e-12)
    np.testing.assert_array_equal(result.weights.toarray() != 0, mask)


def test_a_decoder_walks_along_the_grid(rng):
    hood = ac.Neighborhood(grid=(4, 4), radius=1)
    rows = rng.standard_normal((16, 3))
    whole = ac.attend(rows, rows, rows, scorer="dot", mask=hood, is_causal=True)
    attention = ac.Attention("dot", query_offset="end")
    memory = attention.memory(rows[:0], rows[:0])
    for i, row in enumerate(rows):
        memory.append(row[None], row[None])
        step = attention(row, memory, mask=hood)
        np.testing.assert_allclose(step.context, whole.context[i], atol=1e-12)
        assert step.weights.shape == (i + 1,)


@pytest.mark.parametrize("hood", HOODS, ids=repr)
@pytest.mark.parametrize("rows", [1, 3, 7, 256])
def test_no_neighbor_lies_outside_the_spans(hood, rows):
    size = int(np.prod(hood.grid))
    neighbors, mask = Neighbors(hood, (size, size), 0), dense(hood)
    for first in range(0, size, rows):
        block = slice(first, min(first + rows, size))
        spans = neighbors.spans((), block, slice(0, size))
        outside = np.ones(size, bool)
        for span in spans:
            np.testing.assert_array_equal(neighbors.tile((), block, span), mask[block, span])
            outside[span] = False
        assert not mask[block][:, outside].any()
        assert [a.stop <= b.start for a, b in itertools.pairwise(spans)] == [True] * (
            len(spans) - 1
        )


def test_work_grows_with_neighbors_not_with_the_grid():
    hood = ac.Neighborhood(grid=(1000, 1000), radius=3)
    neighbors = Neighbors(hood, (10**6, 10**6), 0)
    assert neighbors.edge_count == 49 * 10**6
    assert neighbors.spanned <= 9 * 262 * 10**6
    volume = Neighbors(ac.Neighborhood(grid=(64, 64, 64), radius=1), (64**3, 64**3), 0)
    assert volume.spanned <= 3 * 6 * 64 * 64**3


@pytest.mark.parametrize("way", ["edges", "tiles"])
@pytest.mark.parametrize(
    ("hood", "offset"),
    [
        (ac.Neighborhood((7,), radius=10**400), 0),
        (ac.Neighborhood((7,), radius=2**31, dilation=2), 0),
        (ac.Neighborhood((7,), radius=4096, dilation=2**20), 0),  # 2**32 in all
        (ac.Neighborhood((7, 3), radius=(2**62, 1), dilation=(3, 2**64)), 0),
    ],
    ids=repr,
)
def test_steps_of_any_size(hood, offset, way):
    size = int(np.prod(hood.grid))
    x = np.arange(float(size))[:, None]
    expected = ac.attend(x, x, x, scorer="dot", mask=dense(hood))
    with on(way):
        found = ac.attend(x, x, x, scorer="dot", mask=hood)
    np.testing.assert_allclose(found.context, expected.context)


@pytest.mark.parametrize("way", ["edges", "tiles"])
@pytest.mark.parametrize("offset", [2**32 + 3, 2**31 - 1, 10**10 - 1])
def test_positions_on_a_grid_of_any_size(offset, way):
    hood, keys = ac.Neighborhood((100_000, 100_000), radius=1), np.ones((10, 1))
    with on(way):
        found = ac.attend([[1.0]], keys, keys, scorer="dot", mask=hood, query_offset=offset)
    np.testing.assert_array_equal(found.context, [[0]])  # no key is near
    assert not found.weights.sum()
    with pytest.raises(ac.OptionError, match=r"^grid must have at most 2\*\*61 positions, got"):
        ac.Neighborhood((2**31, 2**31), 1)


def test_it_is_a_value():
    hood = ac.Neighborhood((8, 9), radius=(1, 2), is_causal=[True, False])
    same = ac.Neighborhood(grid=[8, 9], radius=[1, 2], is_causal=(True, False))
    assert hood == same
    assert hash(hood) == hash(same)
    assert hood != ac.Neighborhood((8, 9), radius=(1, 2))
    assert hood != "hood"
    assert eval(repr(hood), {"Neighborhood": ac.Neighborhood}) == hood
    assert repr(ac.Neighborhood((5,), 2)) == "Neighborhood(grid=(5,), radius=(2,))"
    assert pickle.loads(pickle.dumps(hood)) == copy.deepcopy(hood) == hood


def test_results_can_be_pickled(rng):
    x = rng.standard_normal((9, 2))
    result = ac.attend(x, x, x, scorer="dot", mask=ac.Neighborhood((3, 3), 1))
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.weights.toarray(), result.weights.toarray())


def test_arrays_of_integers_are_extents_too():
    of_arrays = ac.Neighborhood(np.array([3, 3]), np.array([1, 0], np.uint8))
    assert of_arrays == ac.Neighborhood((3, 3), (1, 0))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"grid": 9}, ac.OptionTypeError, "grid must be integers, one per dimension, got 9"),
        ({"grid": ()}, ac.OptionTypeError, "grid must be integers, one per dimension, got ()"),
        (
            {"grid": (2, 2, 2, 2)},
            ac.OptionError,
            "grid must have one to three dimensions, got (2, 2, 2, 2)",
        ),
        ({"grid": (0, 3)}, ac.OptionError, "grid must be at least 1, got (0, 3)"),
        ({"radius": -1}, ac.OptionError, "radius must be at least 0, got -1"),
        (
            {"radius": 1.5},
            ac.OptionTypeError,
            "radius must be integers, one per dimension, got 1.5",
        ),
        (
            {"radius": (1, 2, 3)},
            ac.OptionError,
            "radius must have one number for each of 2 dimensions, got (1, 2, 3)",
        ),
        ({"dilation": 0}, ac.OptionError, "dilation must be at least 1, got 0"),
        (
            {"is_causal": "yes"},
            ac.OptionTypeError,
            "is_causal must be True or False, or one per dimension, got 'yes'",
        ),
        (
            {"is_causal": (True,)},
            ac.OptionError,
            "is_causal must have one for each of 2 dimensions, got (True,)",
        ),
    ],
    ids=str,
)
def test_errors_say_what_is_expected(arguments, error, text):
    with pytest.raises(error) as caught:
        ac.Neighborhood(**{"grid": (3, 3), "radius": 1, **arguments})
    assert str(caught.value) == text


def test_calls_that_do_not_fit_the_grid_are_errors():
    hood, x = ac.Neighborhood((2, 3), 1), np.ones((7, 2))
    with pytest.raises(ac.ShapeError) as caught:
        ac.attend(x, x, x, scorer="dot", mask=hood)
    assert str(caught.value) == (
        "queries and keys must be positions of the grid (2, 3), 0 to 5, got 7 queries from "
        "query_offset 0 on and 7 keys"
    )
    with pytest.raises(ac.ShapeError, match="got 2 queries from query_offset 5 on"):
        ac.attend(x[:2], x[:6], x[:6], scorer="dot", mask=hood, query_offset=5)
    with pytest.raises(ac.OptionError, match="takes one query_offset for all batch items"):
        ac.attend(x[None, :2], x[:6], x[:6], scorer="dot", mask=hood, query_offset=[1])
    assert ac.attend(x[:0], x[:0], x[:0], scorer="dot", mask=hood).context.shape == (0, 2)


@pytest.mark.parametrize(("radius", "most"), [
    (3, (128 * 7 - 3 * 4) ** 2),  # the neighbors, and nothing else
    (10, 128**4 / 6),  # spans of keys around blocks of queries
])  # fmt: skip
def test_an_image_scores_little_more_than_its_neighbors(radius, most):
    scored = []

    class Counting(ac.InnerProductScorer):
        def score(self, query, key):
            scored.append(query.shape[-2] * key.shape[-2])
            return super().score(query, key)

        def score_pairs(self, query, key):
            scored.append(len(query))
            return super().score_pairs(query, key)

    rows = np.ones((128 * 128, 4), np.float32)
    ac.attend(rows, rows, rows, scorer=Counting(), mask=ac.Neighborhood((128, 128), radius))
    assert 0 < sum(scored) <= most


def test_layers_take_it_for_every_head(rng):
    x = rng.standard_normal((2, 12, 4))
    hood = ac.Neighborhood((3, 4), 1)
    layer = ac.MultiHeadAttention.initialize(4, heads=2, rng=0)
    expected = layer(x, x, x, mask=dense(hood))
    np.testing.assert_allclose(layer(x, x, x, mask=hood).output, expected.output, atol=1e-12)
