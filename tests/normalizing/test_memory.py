"""Memory of normalizers: a few tiles, forward and backward, for any number of keys."""

import tracemalloc

import numpy as np
import pytest

import attention_core as ac

NORMALIZERS = {
    "softmax": {},
    "sink": {"name": "softmax", "sink": 0.3},
    "sigmoid": {"offset": -9.7},
    "sparsemax": {},
    "entmax": {},
    "entmax 3": {"name": "entmax", "alpha": 3.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.1, 1.0])
@pytest.mark.parametrize("name", NORMALIZERS)
def test_memory_is_that_of_tiles(rng, name, spread):
    query, key, value = (spread * rng.standard_normal((3, 16384, 64))).astype(np.float32)
    normalizer = ac.make_normalizer(**{"name": name, **NORMALIZERS[name]})
    tracemalloc.start()
    try:
        result = ac.attend(query, key, value, scorer="scaled_dot", normalizer=normalizer)
        forward = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        result.vjp(value)
        backward = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(forward, backward) <= 64 << 20
