"""Reused memory: it belongs to one block at a time, under threads and signals."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from attention_core_standard import additive_gradient, hidden_units, quotients

import attention_core as ac
from attention_core.learned import buffer

LARGE = (1 << 10, 1 << 8)


def test_memory_is_used_again():
    with buffer(LARGE, np.float32) as first:
        start = first.ctypes.data
    with buffer(LARGE, np.float32) as second:
        assert second.ctypes.data == start


def test_nested_blocks_share_nothing():
    with buffer(LARGE, np.float32) as outer, buffer(LARGE, np.float32) as inner:
        assert not np.shares_memory(outer, inner)


def test_other_threads_share_nothing():
    found = []

    def work():
        with buffer(LARGE, np.float32) as inner:
            found.append(np.shares_memory(outer, inner))

    with buffer(LARGE, np.float32) as outer:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [False]


def test_memory_comes_back_after_a_failure():
    def fail():
        with buffer(LARGE, np.float32) as first:
            starts.append(first.ctypes.data)
            raise ZeroDivisionError

    starts = []
    with pytest.raises(ZeroDivisionError):
        fail()
    with buffer(LARGE, np.float32) as second:
        assert second.ctypes.data == starts[0]


def calls(scorer, rng):
    """Attend and differentiate, with both forms of the additive score."""
    for length, scale in [(64, 1.0), (64, 50.0), (8, 1.0)]:  # quotients, then tanh
        query, key, value = scale * rng.standard_normal((3, length, 24))

        def call(query=query, key=key, value=value):
            result = ac.attend(query, key, value, scorer=scorer, workers=1)
            return [result.context, *result.vjp(np.ones_like(result.context))[:3]]

        yield call


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_handler_that_attends_while_a_scorer_works_changes_no_bit(position, monkeypatch):
    monkeypatch.setenv("ATTENTION_CORE_COMPILED", "0")  # compiled code takes no buffer
    scorer = ac.make_scorer("additive", query_dim=24, key_dim=24, hidden_dim=48, rng=0)
    outer = list(calls(scorer, np.random.default_rng(0)))[position]
    inner = next(calls(scorer, np.random.default_rng(1)))
    expected, expected_inner = outer(), inner()
    found, depth = [], 0

    class Interrupting(buffer):
        """Deliver a signal just after a buffer is lent."""

        __slots__ = ()

        def __enter__(self):
            array = super().__enter__()
            array.fill(0)
            signal.raise_signal(signal.SIGUSR1)
            return array

    def handler(*_):
        nonlocal depth
        if depth == 0:
            depth += 1
            found.append(inner())
            depth -= 1

    for module in (additive_gradient, hidden_units, quotients):
        monkeypatch.setattr(module, "buffer", Interrupting)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        got = outer()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert found
    for arrays in found:
        for array, wanted in zip(arrays, expected_inner, strict=True):
            np.testing.assert_array_equal(array, wanted)
    for array, wanted in zip(got, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_a_score_inside_a_score_changes_no_bit():
    inner = ac.make_scorer("additive", query_dim=24, key_dim=24, hidden_dim=48, rng=0)

    class Nested(type(inner)):
        def score(self, query, key):
            other = inner.score(query + 1, key)  # uses the same memory, one after another
            return super().score(query, key) + other

    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 64, 24))
    scorer = Nested(**inner.parameters)
    prepared = inner.project_query(query), inner.project_key(key)
    wanted = inner.score(*prepared) + inner.score(prepared[0] + 1, prepared[1])
    got = ac.attend(query, key, value, scorer=scorer).scores
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
