"""`np.maximum` and `np.minimum` in pair functions."""

from __future__ import annotations

import numpy as np
import pytest

import attention_core as ac

pytest.importorskip("numba")


class Larger(ac.PairScorer):
    """The sum of the larger entries minus that of the smaller."""

    @staticmethod
    def pair(q, k):
        total = 0.0
        for d in range(len(q)):
            total += np.maximum(q[d], k[d]) - 0.5 * np.minimum(q[d], k[d])
        return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_inf_are_those_of_numpy(dtype, rng):
    query, key = rng.normal(size=(2, 40, 37)).astype(dtype)  # an odd number: vectors have a rest
    for array in (query, key):
        array[rng.random(array.shape) < 0.01] = np.nan
        array[rng.random(array.shape) < 0.01] = np.inf
        array[rng.random(array.shape) < 0.01] = -np.inf
    with np.errstate(invalid="ignore"):
        q, k = query[:, None], key[None]
        expected = (np.maximum(q, k) - dtype(0.5) * np.minimum(q, k)).sum(axis=-1)
    found = ac.attend(query, key, key, scorer=Larger()).scores
    assert {*np.isnan(found).ravel()} == {*np.isinf(found).ravel()} == {True, False}
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
