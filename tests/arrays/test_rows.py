"""Rows are immutable, even when others are appended, and appending is cheap."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from attention_core.arrays.rows import Rows


def column(*numbers):
    return np.array(numbers, float)[:, None]


def numbers(rows):
    return rows.array[..., 0].tolist()


def test_two_continuations_of_the_same_rows_stay_apart():
    first = Rows(column(1)).extended(column(2))  # now there is room
    left, right = first.extended(column(3)), first.extended(column(4))
    assert np.shares_memory(left.array, first.array)
    assert [numbers(rows) for rows in (first, left, right)] == [[1, 2], [1, 2, 3], [1, 2, 4]]
    assert numbers(left.extended(column(5))) == [1, 2, 3, 5]
    assert numbers(first.extended(column(6, 7, 8, 9))) == [1, 2, 6, 7, 8, 9]


def test_rows_that_were_cut_off_are_not_overwritten():
    whole = Rows(column(1)).extended(column(2, 3))
    short = whole.truncated(2)
    again = short.extended(column(9))
    assert [numbers(rows) for rows in (whole, short, again)] == [[1, 2, 3], [1, 2], [1, 2, 9]]
    assert numbers(whole.extended(column(4))) == [1, 2, 3, 4]


def test_rows_broadcast_to_the_batch_axes():
    rows = Rows(np.zeros((2, 3, 0, 1))).extended(column(1, 2))
    assert rows.array.shape == (2, 3, 2, 1)
    assert numbers(rows.taken(np.array([1, 1]), 0))[1][2] == [1, 2]


def test_adding_nothing_changes_nothing():
    rows = Rows(column(1, 2))
    assert numbers(rows.extended(column())) == [1, 2]
    assert numbers(rows.truncated(0).extended(column(3))) == [3]


def test_taken_rows_have_room_of_their_own():
    rows = Rows(np.zeros((2, 1, 1))).extended(np.ones((2, 1, 1)))
    taken = rows.taken(np.array([1]), 0)
    assert taken.nbytes == rows.nbytes // 2
    longer = taken.extended(column(7))
    assert np.shares_memory(longer.array, taken.array)
    assert not np.shares_memory(longer.array, rows.array)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda rows: pickle.loads(pickle.dumps(rows))])
def test_copies_leave_the_room_behind(way):
    rows = Rows(column(1, 2)).extended(column(3))
    twin = way(rows)
    assert numbers(twin) == [1, 2, 3]
    assert (twin.nbytes, rows.nbytes) == (24, 48)
    assert not np.shares_memory(twin.array, rows.array)
