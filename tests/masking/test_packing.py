"""Packed sequences: one call over many, without padding, equals a call for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import make_case

import attention_core as ac

LENGTHS = {
    "few": ([3, 0, 5, 40, 1], [4, 2, 0, 70, 3]),
    "long": ([300, 1, 2, 700], [100, 5, 6, 800]),  # cut into several blocks
    "many": ([*range(30), 7, 7, 7], [*range(29, -1, -1), 0, 7, 9]),  # share blocks
}
OPTIONS: dict[str, dict[str, Any]] = {
    "open": {},
    "causal": {"is_causal": True},
    "window": {"window": (2, 1), "query_offset": 3},
    "bias": {"bias": lambda i, j: -0.1 * abs(i - j), "softcap": 2.0},
}


@pytest.mark.parametrize("name", ["additive", "dot", "taxicab"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("tile", [None, (7, 5)], ids=str)
def test_packed_sequences_attend_as_they_do_alone(rng, name, lengths, options, tile):
    case, packing = make_case(name), ac.Packing.from_lengths(*LENGTHS[lengths])
    starts, key_starts = packing.query_starts, packing.key_starts
    query, key, value = case.arrays(rng, (2,), queries=starts[-1], keys=key_starts[-1])
    packed = case.attend(query, key, value, mask=packing, tile=tile, **OPTIONS[options])
    weights = np.zeros_like(packed.weights)
    for n in range(len(packing)):
        rows, keys = slice(*starts[n : n + 2]), slice(*key_starts[n : n + 2])
        alone = case.attend(query[:, rows], key[:, keys], value[:, keys], **OPTIONS[options])
        np.testing.assert_allclose(packed.context[:, rows], alone.context, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(packed.log_normalizer[:, rows], alone.log_normalizer, rtol=1e-9)
        weights[:, rows, keys] = alone.weights
    np.testing.assert_allclose(packed.weights, weights, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(packed.key_mass, weights.sum(axis=-2), rtol=1e-9, atol=1e-12)


def test_each_sequence_may_have_its_own_offset(rng):
    dot, offsets = make_case("dot"), np.array([4, 0, -2])
    query, key, value = dot.arrays(rng, queries=9, keys=15)
    packing = ac.Packing([0, 3, 6, 9], [0, 7, 10, 15])
    packed = dot.attend(query, key, value, mask=packing, is_causal=True, query_offset=offsets)
    for n, offset in enumerate(offsets.tolist()):
        rows = slice(*packing.query_starts[n : n + 2])
        keys = slice(*packing.key_starts[n : n + 2])
        alone = dot.attend(query[rows], key[keys], value[keys], is_causal=True, query_offset=offset)
        np.testing.assert_allclose(packed.context[rows], alone.context, rtol=1e-12, atol=1e-14)


def test_garbage_in_one_sequence_stays_there(rng):
    query, key, value = make_case("dot").arrays(rng, queries=12, keys=12)
    packing = ac.Packing([0, 4, 12])
    clean = ac.attend(query, key, value, scorer="dot", mask=packing).context
    key[:4], value[:4], query[:4] = np.nan, np.inf, np.nan
    dirty = ac.attend(query, key, value, scorer="dot", mask=packing).context
    np.testing.assert_allclose(dirty[4:], clean[4:], rtol=1e-12)
    assert np.isnan(dirty[:4]).all()


def test_work_is_that_of_the_sequences_alone():
    scored = []

    class Counting(ac.InnerProductScorer):
        def score(self, query, key):
            scored.append(query.shape[-2] * key.shape[-2])
            return super().score(query, key)

    rows = np.ones((4000, 4))
    packing = ac.Packing.from_lengths([1000] * 4)
    ac.attend(rows, rows, rows, scorer=Counting(), mask=packing, workers=1)
    assert sum(scored) == 4 * 1000**2


def test_a_packing_knows_its_size_and_shows_its_starts():
    packing = ac.Packing([0, 2, 5])
    assert len(packing) == 2
    assert repr(packing) == ("Packing(query_starts=array([0, 2, 5]), key_starts=array([0, 2, 5]))")


@pytest.mark.parametrize(
    ("starts", "error", "text"),
    [
        (
            ([0.0, 2.0],),
            ac.DTypeError,
            "query_starts must be integers, got dtype float64; convert it with "
            "numpy.asarray(..., dtype=int)",
        ),
        (([[0, 2]],), ac.ShapeError, "query_starts must have shape (n + 1,), got (1, 2)"),
        (
            ([1, 2],),
            ac.ShapeError,
            "query_starts must begin at 0 and never decrease, got [1, 2]",
        ),
        (
            ([0, 2], [0, 3, 2]),
            ac.ShapeError,
            "key_starts must begin at 0 and never decrease, got [0, 3, 2]",
        ),
        (
            ([0, 2], [0, 1, 2]),
            ac.ShapeError,
            "query_starts and key_starts must have the same length, got (2,) and (3,)",
        ),
    ],
)
def test_impossible_starts(starts, error, text):
    with pytest.raises(error) as caught:
        ac.Packing(*starts)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"mask": ac.Packing([0, 2, 4])},
            ac.ShapeError,
            "query_starts must end at the number of rows, 5, got 4",
        ),
        (
            {"mask": ac.Packing([0, 5]), "key_lengths": 3},
            ac.OptionError,
            "packed sequences have their lengths in their starts; "
            "omit key_lengths and query_lengths",
        ),
        (
            {"mask": ac.Packing([0, 2, 5]), "query_offset": [1, 2, 3]},
            ac.ShapeError,
            "query_offset must be one integer, or one for each of the 2 packed sequences, "
            "got shape (3,)",
        ),
    ],
)
def test_packings_that_do_not_fit(options, error, text):
    rows = np.ones((5, 2))
    with pytest.raises(error) as caught:
        ac.attend(rows, rows, rows, scorer="dot", **options)
    assert str(caught.value) == text
