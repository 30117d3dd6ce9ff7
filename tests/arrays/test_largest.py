"""The largest numbers of each row, against a stable sort of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attention_core.arrays.largest import largest

NUMBERS = st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32)


def expected(array, n):
    order = np.argsort(-array, axis=-1, kind="stable")[..., :n]
    return np.take_along_axis(array, order, axis=-1), order


def in_order(numbers, columns):
    """Sort columns and numbers by decreasing numbers, stably."""
    order = np.argsort(-numbers, axis=-1, kind="stable")
    return np.take_along_axis(numbers, order, -1), np.take_along_axis(columns, order, -1)


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: arrays(dtype, (2, 3, 24), elements=NUMBERS)
    ),
    st.integers(1, 24),
)
def test_the_largest_of_each_row(array, n):
    numbers, columns = expected(array, n)
    found = in_order(*largest(array.copy(), n))
    np.testing.assert_array_equal(found[0], numbers)
    finite = numbers > -np.inf  # the columns of other entries are arbitrary
    np.testing.assert_array_equal(found[1][finite], columns[finite])


@pytest.mark.parametrize("n", [1, 16, 17, 40])
@pytest.mark.parametrize("shape", [(0, 40), (2, 0, 40), (3, 40), (1, 2, 3, 40)], ids=str)
def test_equal_numbers_come_in_the_order_of_their_columns(n, shape):
    numbers, columns = in_order(*largest(np.zeros(shape, np.float32), n))
    assert columns.shape == (*shape[:-1], n)
    np.testing.assert_array_equal(columns, np.broadcast_to(np.arange(n), columns.shape))
    assert numbers.dtype == np.float32
