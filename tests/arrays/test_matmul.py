"""Products of matrices: exact in every layout, and never blocking other threads."""

import threading
import time

import numpy as np
import pytest

from attention_core.arrays.matmul import inner_products, matrix_product, row_sums


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 20_000, 4), (40, 7, 30), (1, 3, 2)])
def test_a_product_is_that_of_matmul(rng, batch, rows, inner, columns):
    left = rng.normal(size=(*batch, rows, inner))
    right = rng.normal(size=(inner, columns))
    expected = left @ right
    out = np.empty(expected.shape)
    assert matrix_product(left, right, out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)
    spread = np.empty((*expected.shape, 2))[..., 0]  # not contiguous
    np.testing.assert_allclose(
        matrix_product(left, right, spread), expected, rtol=1e-10, atol=1e-10
    )


def test_keys_may_be_transposed_views(rng):
    query, key = rng.normal(size=(2, 1, 64)), rng.normal(size=(2, 4000, 64))[:, ::2]
    out = np.empty((2, 1, 2000))
    expected = np.einsum("nld,nsd->nls", query, key)
    np.testing.assert_allclose(matrix_product(query, key.swapaxes(-1, -2), out), expected)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0, 3), (3, 0), (2, 3, 5)])
def test_row_sums(rng, shape):
    array = rng.normal(size=(*shape, 6))
    np.testing.assert_allclose(row_sums(array), array.sum(axis=-1), atol=1e-12)
    np.testing.assert_array_equal(row_sums(np.ones((2, 0))), [0, 0])


def turns_of_others(function, *, calls=5):
    """The number of turns that another thread gets during calls of a function."""
    is_done = threading.Event()
    worker = threading.Thread(target=lambda: ([function() for _ in range(calls)], is_done.set()))
    turns = 0
    worker.start()
    while not is_done.is_set():
        time.sleep(0.0005)
        turns += 1
    worker.join()
    return turns


def test_few_results_of_much_work_let_other_threads_work():
    weights, value = np.ones((1, 1 << 20), np.float32), np.ones((1 << 20, 24), np.float32)
    out = np.empty((1, 24), np.float32)
    calls = 5
    # a product allows ten turns or more, or one if it holds the interpreter's lock
    assert turns_of_others(lambda: matrix_product(weights, value, out), calls=calls) > 3 * calls


@pytest.mark.parametrize("batch", [(), (3,), (2, 1)], ids=str)
@pytest.mark.parametrize("length", [1, 2, 5, 16, 17])
@pytest.mark.parametrize("count", [7, 300, 2049, 5000])
@pytest.mark.parametrize("features", [0, 1, 5, 64, 200])
def test_few_rows_times_long_matrices(rng, batch, length, count, features):
    query = rng.normal(size=(*batch, length, features))
    wider = {(): (), (3,): (3,), (2, 1): (2, 4)}[batch]  # one query for several keys
    key, value = rng.normal(size=(2, *wider, count, features))
    scores = query @ key.swapaxes(-1, -2)
    room = np.empty_like(scores)
    np.testing.assert_allclose(inner_products(query, key, room), scores, atol=1e-12)
    expected = scores @ value
    found = matrix_product(scores, value, np.empty_like(expected))
    scale = np.abs(expected).max(initial=0) * 1e-13
    np.testing.assert_allclose(found, expected, atol=scale)
    np.testing.assert_allclose(matrix_product(scores, value), expected, atol=scale)
    whole = np.broadcast_to(query, (*scores.shape[:-1], features))
    np.testing.assert_allclose(inner_products(whole, key), scores, atol=1e-12)
