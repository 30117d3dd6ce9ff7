"""Folding results of blocks: in a fixed order, with few kept in memory, until one fails."""

import time
from threading import Lock

import pytest

from attention_core.parallel.threads import fold_blocks

WORTH = 1e9  # nanoseconds, so that there are threads


def test_results_are_added_in_one_order():
    added = []
    fold_blocks(
        lambda n: n * n,
        lambda n, square: added.append((n, square)),
        range(50),
        cost=WORTH,
        workers=4,
    )
    assert added == [(n, n * n) for n in range(49, -1, -1)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_few_results_wait_for_a_slow_one(workers):
    lock, alive, most = Lock(), 0, 0

    def work(n):
        nonlocal alive, most
        time.sleep(0.3 if n == 39 else 0.001)  # the first of all
        with lock:
            alive += 1
            most = max(most, alive)
        return n

    def add(n, result):
        nonlocal alive
        alive -= 1

    fold_blocks(work, add, range(40), cost=WORTH, workers=workers)
    assert alive == 0
    assert most <= 2 + workers


@pytest.mark.parametrize("fails", [39, 20, 0])
def test_an_error_ends_those_that_wait(fails):
    def work(n):
        if n == 39:
            time.sleep(0.2)
        if n == fails:
            raise ValueError(n)
        return n

    started = time.perf_counter()
    with pytest.raises(ValueError, match=str(fails)):
        fold_blocks(work, lambda n, result: None, range(40), cost=WORTH, workers=4)
    assert time.perf_counter() - started < 5
