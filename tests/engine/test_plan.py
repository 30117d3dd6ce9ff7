"""Tiles do not change results: every tile size gives the results of a single tile."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import reference
import scipy.sparse
from cases import Case, column, make_case

import attention_core as ac
from attention_core.engine import dispatch
from attention_core.engine.single_tile import attend_single_tile
from attention_core.masking.band import _ceiling, _tile
from attention_core.scoring.contract import checked_bound

TILES = [(1, 1), (3, 5), (2, 7), (5, 1), (1, 7), (4, 4), (100, 100)]


def options(name, rng, batch):
    """One restriction of every kind, for L = 5 and S = 7."""
    return {
        "nothing": {},
        "mask": {"mask": rng.random((*batch, 5, 7)) < 0.5},
        "row mask": {"mask": rng.random((5, 1)) < 0.5},
        "sparse mask": {"mask": scipy.sparse.csr_array(rng.random((5, 7)) < 0.5)},
        "mask function": {"mask": lambda i, j: (i * j) % 2 == 0},
        "bias": {"bias": rng.standard_normal((5, 7))},
        "bias function": {"bias": lambda i, j: -0.3 * abs(i - j)},
        "causal": {"is_causal": True},
        "causal bottom-right": {"is_causal": True, "query_offset": 2},
        "window": {"window": (1, 2), "query_offset": -1},
        "lengths": {"key_lengths": 4, "query_lengths": 3},
        "softcap": {"softcap": 1.0},
        "everything": {
            "mask": rng.random((5, 7)) < 0.8,
            "bias": lambda i, j: 0.2 * i - 0.1 * j,
            "key_lengths": 6,
            "query_lengths": 4,
            "is_causal": True,
            "query_offset": 3,
            "window": (3, 3),
            "softcap": 2.0,
        },
    }[name]


@pytest.mark.parametrize("tile", TILES, ids=str)
@pytest.mark.parametrize("name", [
    "nothing", "mask", "row mask", "sparse mask", "mask function", "bias", "bias function",
    "causal", "causal bottom-right", "window", "lengths", "softcap", "everything",
])  # fmt: skip
def test_any_tile_gives_what_the_oracle_gives(case, rng, tile, name):
    batch = (2,)
    case.check(*case.arrays(rng, batch), tile=tile, **options(name, rng, batch))


def test_small_calls_are_one_tile_and_need_the_loop_only_for_nan(case, rng, monkeypatch):
    sound = []

    def spied(*call):
        found = attend_single_tile(*call)
        sound.append(found is not None)
        return found

    monkeypatch.setattr(dispatch, "attend_single_tile", spied)
    query, key, value = case.arrays(rng, (2,))
    case.check(query, key, value)
    case.check(query, key, value, softcap=1.0)
    case.check(query, key, value, is_causal=True, query_offset=1, bias=np.ones(7))
    assert len(sound) >= 3
    assert all(sound)
    calls = len(sound)
    case.check(query, key, value, tile=(2, 7))
    assert len(sound) == calls
    value[1, 6] = math.nan
    case.check(query, key, value)
    assert sound[calls:] == [False] * len(sound[calls:]) != []


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_nan_and_infinity_go_the_same_way_in_any_tile(case, rng, tile):
    query, key, value = case.arrays(rng, (2,))
    query[0, 1], key[0, 5], value[1, 2, 0], value[1, 6] = math.nan, math.inf, math.nan, -math.inf
    case.check(query, key, value, is_causal=True, query_offset=1, tile=tile)


SHAPES = [  # batch, L, S: few and many of each, so that every kind of split occurs
    ((), 1, 5000),
    ((), 3, 9000),
    ((), 2000, 7),
    ((), 700, 1100),
    ((40,), 1, 60),
    ((7,), 30, 1000),
    ((3, 5), 33, 70),
    ((2, 1, 9), 5, 40),
    ((2, 3), 260, 530),
    ((600,), 3, 4),
]


@pytest.mark.parametrize(("batch", "queries", "keys"), SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["open", "restricted", "functions"])
@pytest.mark.parametrize("name", ["additive", "scaled_dot"])
def test_the_engine_cuts_any_shape_right(rng, name, batch, queries, keys, kind):
    case = make_case(name)
    query, key, value = case.arrays(rng, batch, queries=queries, keys=keys)
    i, j = np.arange(queries)[:, None], np.arange(keys)
    options, allowed, bias = {}, np.ones((*batch, queries, keys), bool), 0.0
    if kind == "restricted":
        lengths = rng.integers(0, keys + 1, batch)
        offset = keys // 2
        window = (keys // 3, keys // 4)
        options = {"key_lengths": lengths, "query_offset": offset, "window": window}
        distance = j - (i + offset)
        allowed &= (j < lengths[..., None, None]) & (-window[0] <= distance)
        allowed &= distance <= window[1]
    elif kind == "functions":
        options = {"mask": lambda i, j: (i + j) % 5 != 0, "bias": lambda i, j: 0.001 * (j - i)}
        allowed &= (i + j) % 5 != 0
        bias = 0.001 * (j - i)
    result = case.attend(query, key, value, **options)

    scores = case.scorer.score(case.scorer.project_query(query), case.scorer.project_key(key))
    exponentials = np.where(allowed, np.exp(scores + bias), 0)  # scores of normals stay small
    total = exponentials.sum(-1, keepdims=True)
    weights = exponentials / np.where(total == 0, 1, total)
    close = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(result.context, weights @ value, **close)
    np.testing.assert_allclose(result.weights, weights, **close)
    np.testing.assert_allclose(result.key_mass, weights.sum(-2), **close)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(result.log_normalizer, np.log(total[..., 0]), **close)
    rows = result.rows(slice(queries // 2, queries // 2 + 3))
    np.testing.assert_allclose(rows, weights[..., queries // 2 : queries // 2 + 3, :], **close)
    top = result.top_k(1)
    np.testing.assert_allclose(top.weights[..., 0], weights.max(-1, initial=0), **close)


def test_a_tile_may_be_a_list():
    case = make_case("dot")
    arrays = case.arrays(np.random.default_rng(0))
    np.testing.assert_array_equal(
        case.attend(*arrays, tile=[2, 3]).context, case.attend(*arrays, tile=(2, 3)).context
    )


class Spying(ac.InnerProductScorer):
    """Records the sizes of the tiles it scores."""

    def __init__(self):
        self.tiles = []

    def score(self, query, key):
        self.tiles.append((query.shape[-2], key.shape[-2]))
        return super().score(query, key)


def test_a_scorer_never_sees_more_than_a_tile():
    spy = Spying()
    case = make_case("dot")
    query, key, value = case.arrays(np.random.default_rng(0), (2,), queries=10, keys=20)
    ac.attend(query, key, value, scorer=spy, tile=(3, 7))
    assert spy.tiles
    assert max(rows for rows, _ in spy.tiles) == 3
    assert max(columns for _, columns in spy.tiles) == 7


@pytest.mark.parametrize(
    ("restriction", "tiles"),
    [
        ({"is_causal": True}, 10),  # the lower triangle of 4 x 4 tiles
        ({"window": (0, 0)}, 4),  # its diagonal
        ({"key_lengths": 5}, 8),  # two columns of tiles
        ({"query_lengths": 4}, 4),  # one row of tiles
        ({"is_causal": True, "query_offset": -16}, 0),
        ({"key_lengths": 0}, 0),
        ({}, 16),
    ],
    ids=str,
)
def test_tiles_with_nothing_to_attend_to_are_never_scored(restriction, tiles):
    spy = Spying()
    ones = np.ones((16, 2))
    ac.attend(ones, ones, ones, scorer=spy, tile=(4, 4), **restriction)
    assert len(spy.tiles) == tiles


@pytest.mark.parametrize(
    "form", [np.asarray, scipy.sparse.csr_array, lambda m: lambda i, j: m[i, j]]
)
def test_tiles_that_a_mask_leaves_empty_are_never_scored(form):
    spy = Spying()
    mask = np.zeros((16, 16), bool)
    mask[5, 2], mask[6, 3], mask[15, 15] = True, True, True
    ones = np.ones((16, 2))
    ac.attend(ones, ones, ones, scorer=spy, tile=(4, 4), mask=form(mask))
    assert len(spy.tiles) == 2


# ------------------------------------------------- exact shortcuts: both sides of their conditions


class Unbounded(ac.Scorer):
    """The dot score without the bound of inner products."""

    def score(self, query, key):
        return query @ key.swapaxes(-1, -2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [0.01, 1.0, 5.0, 20.0, 1e3, 1e4])
@pytest.mark.parametrize("tile", [None, (3, 5)])
def test_a_bound_on_the_scores_changes_nothing_but_the_speed(rng, dtype, size, tile):
    case = make_case("dot")
    # so many queries that the bound is computed
    query, key, value = case.arrays(rng, (2,), queries=24, keys=12, dtype=dtype)
    query *= dtype(size)
    options = {"is_causal": True, "query_offset": 2, "tile": tile}
    scale = 32 * max(1.0, size)
    bounded = case.check(query, key, value, scale=scale, **options)
    free = ac.attend(query, key, value, scorer=Unbounded(), **options)
    # the products may be summed in another order: eps of the computing dtype times the scores
    tolerance = 20 * scale * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(bounded.context, free.context, atol=max(tolerance, 1e-12) * 4)


@pytest.mark.parametrize("bias", [0.0, 40.0, 500.0, -500.0, 1e5, -1e5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", ["array", "function"])
def test_a_bias_beyond_the_bound_of_the_scores_does_not_overflow(rng, bias, dtype, form):
    # the scores alone are small, but not the input of softmax
    case = make_case("scaled_dot")
    query, key, value = case.arrays(rng, queries=20, dtype=dtype)
    shifted = np.full((20, 7), bias, dtype)
    added = shifted if form == "array" else (lambda i, j: np.full((len(i), j.shape[1]), bias))
    case.check(query, key, value, bias=added, scale=max(32.0, abs(bias)))


@pytest.mark.parametrize("cap", [0.5, 30.0, 1e4])
def test_a_softcap_bounds_scores_that_are_not_bounded(rng, cap):
    case = make_case("dot")
    query, key, value = case.arrays(rng, dtype=np.float32)
    case.check(1000 * query, key, value, softcap=cap, scale=32_000)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [0.1, 3.0, 30.0, 60.0, 400.0, 1e4])
@pytest.mark.parametrize("tile", [None, (3, 5)])
def test_additive_is_right_for_hidden_values_of_any_size(rng, dtype, size, tile):
    # the form without tanh must fall back if its exponentials would overflow
    case = make_case("additive")
    query, key, value = case.arrays(rng, (2,), dtype=dtype)
    # |tanh'| <= 1, so an error in the hidden values, at most eps * size * 10, is not amplified
    case.check(query * dtype(size), key * dtype(size), value, tile=tile, scale=max(32, 40 * size))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [20.0, 44.0, 60.0, 360.0, 1e4])
@pytest.mark.parametrize(("query_size", "key_size"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_additive_is_right_when_one_side_alone_is_large(rng, dtype, size, query_size, key_size):
    case = make_case("additive")
    query, key, value = case.arrays(rng, queries=8, dtype=dtype)
    query = abs(query) * dtype(size * query_size or 1)
    key = abs(key) * dtype(size * key_size or 1)
    case.check(query, key, value, scale=40 * size)
    query, key, value = case.arrays(rng, queries=8, dtype=dtype)
    query[2] *= dtype(size * query_size or 1)  # one row is enough to leave the range
    key[3] *= dtype(size * key_size or 1)
    case.check(query, key, value, scale=40 * size)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1.0, 20.0, 39.0, 44.0, 60.0, 345.0, 354.5, 1000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_additive_is_right_when_large_projections_cancel(rng, dtype, size, sign):
    # q + k is moderate though q and k are not; exp(2 * 44.4) overflows float32, exp(2 * 354.9) all
    arrays = {"query_weight": np.eye(3), "key_weight": np.eye(3), "score_weight": np.ones(3)}
    case = Case("sum", ac.make_scorer("additive", **arrays), reference.additive(**arrays), 3, 3)
    key = (sign * size + rng.uniform(-1, 1, (7, 3))).astype(dtype)
    query = (-sign * size + rng.uniform(-1, 1, (8, 3))).astype(dtype)
    value = rng.standard_normal((7, 2))
    case.check(query, key, value.astype(dtype), scale=max(8.0, 2 * size))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("queries", [1, 20])
def test_additive_keeps_the_digits_of_small_hidden_values(rng, dtype, queries):
    # tanh(x) is x here and the weights make ordinary scores of it; 1 - (1 - x) would have lost x
    small, large = 1e-4, 1e4
    arrays = {
        "query_weight": small * rng.standard_normal((4, 6)),
        "key_weight": small * rng.standard_normal((3, 6)),
        "score_weight": large * rng.standard_normal(6),
    }
    linear = Case(
        "linear", ac.make_scorer("additive", **arrays), reference.additive(**arrays), 4, 3
    )
    linear.check(*linear.arrays(rng, queries=queries, dtype=dtype), scale=200)


def test_minus_infinity_first_then_numbers_then_minus_infinity():
    # tiles of -inf only before, between and after the others
    infinite = -math.inf
    scores = [infinite, infinite, 1.0, infinite, 2.0, infinite]
    bias = np.array([scores])
    dot = make_case("dot")
    for tile in (None, (1, 1), (1, 2), (1, 4)):
        dot.check(column(0.0), column(*range(6)), np.eye(6), bias=bias, tile=tile)


def test_masked_tiles_between_others_leave_no_trace(rng):
    case = make_case("dot")
    mask = np.ones((5, 7), bool)
    mask[:, 2:4] = False
    mask[3] = False
    case.check(*case.arrays(rng), mask=mask, tile=(1, 2))


def test_pairs_are_scored_like_tiles(case, rng):
    query, key, _ = case.arrays(rng, (2,), queries=6, keys=6)
    query, key = case.scorer.project_query(query), case.scorer.project_key(key)
    tiles = case.scorer.score(query, key)
    pairs = case.scorer.score_pairs(query, key)
    np.testing.assert_allclose(pairs, np.diagonal(tiles, axis1=-2, axis2=-1), rtol=1e-12)


def test_a_bound_holds_for_every_pair(case, rng):
    query, key, _ = case.arrays(rng, queries=20, keys=20)
    query, key = case.scorer.project_query(query), case.scorer.project_key(key)
    bound = case.scorer.score_bound(query, key)
    assert abs(case.scorer.score(query, key)).max() <= bound * (1 + 1e-12)


def test_a_case_that_agrees_by_accident_would_be_noticed(rng):
    # the comparison itself can fail: the same arrays, another scorer
    dot, other = make_case("dot"), make_case("scaled_dot")
    wrong = Case("wrong", other.scorer, dot.score, 4, 4)
    with pytest.raises(AssertionError):
        wrong.check(*wrong.arrays(rng))


def test_another_score_starts_over_with_what_follows_from_a_score(rng):
    # the bound and the pairs of an inner product do not belong to a larger score
    class Tenfold(ac.InnerProductScorer):
        def score(self, query, key):
            return 10 * super().score(query, key)

    query, key, value = make_case("dot").arrays(rng, queries=40, keys=30)
    assert Tenfold.traits.defaults == {"score_bound", "score_pairs", "score_pairs_vjp"}
    assert checked_bound(Tenfold(), query, key) == math.inf
    for mask in (None, scipy.sparse.eye_array(40, 30, k=1) + scipy.sparse.eye_array(40, 30)):
        dense = None if mask is None else mask.toarray() != 0
        got = ac.attend(query, key, value, scorer=Tenfold(), mask=mask)
        wanted = ac.attend(10 * query, key, value, scorer="dot", mask=dense)
        np.testing.assert_allclose(got.context, wanted.context, rtol=1e-9, atol=1e-12)


def test_a_single_query_takes_no_more_memory_than_a_tile():
    keys, hidden = 100_000, 64
    scorer = ac.make_scorer("additive", query_dim=2, key_dim=2, hidden_dim=hidden, rng=0)
    attention = ac.Attention(scorer)
    memory = attention.memory(np.ones((keys, 2), np.float32), np.ones((keys, 2), np.float32))
    attention(np.ones(2, np.float32), memory)
    tracemalloc.start()
    attention(np.ones(2, np.float32), memory)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20  # hidden units of all keys take 26 MB


def test_bands_of_huge_tiles_are_not_kept():
    x = np.ones((1000, 2))
    before = _tile.cache_info().currsize, _ceiling.cache_info().currsize
    ac.attend(x, x, x, scorer="dot", is_causal=True, tile=(1000, 1000))
    assert (_tile.cache_info().currsize, _ceiling.cache_info().currsize) == before
