"""Many threads attend, and so does the main thread, which is interrupted at random moments.

No thread hangs or gets a wrong bit, then or later, and NumPy and BLAS end with the settings
that they had.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import threadpoolctl

import attention_core as ac
from campaign.calls import Rng, random_call
from campaign.concurrency import everything, large_call
from campaign.signals import blas_threads, interrupted, leaves_settings_behind

QUICK = 1
THREADS = 64
INTERRUPTS = 25


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def of_a_layer(layer: ac.MultiHeadAttention, x: Any) -> list[Any]:
    result = layer(x, x, x)
    return [result.output, *(each.weights for each in result.attention), result.vjp(x).query]


def check(rng: Rng) -> None:
    works = []
    for call in [random_call(rng) for _ in range(4)] + [large_call(rng), large_call(rng)]:
        memory = ac.Memory(call.case.scorer, call.key, call.value)
        result = ac.attend(call.query, call.key, call.value, scorer=call.case.scorer)
        works.append((everything, call, rng.standard_normal(result.context.shape), memory))
    layer = ac.MultiHeadAttention.initialize(8, heads=2, rng=0, scorer=["dot", "scaled_dot"])
    works.append((of_a_layer, layer, rng.standard_normal((2, 9, 8))))
    expected = [work(*given) for work, *given in works]
    settings = np.geterr()
    over, start = threading.Event(), threading.Barrier(THREADS + 1)

    def compare(index: int) -> None:
        work, *given = works[index]
        for ours, theirs in zip(work(*given), expected[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert np.geterr() == settings

    def attend_until_it_is_over(seed: int) -> None:
        own = np.random.default_rng(seed)
        start.wait(600)
        while True:
            compare(int(own.integers(len(works))))
            if over.is_set():  # a thread may start only now
                return

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (
            threadpoolctl.threadpool_limits(2, user_api="blas"),
            ThreadPoolExecutor(THREADS) as pool,
        ):
            before = blas_threads()
            jobs = [pool.submit(attend_until_it_is_over, seed) for seed in range(THREADS)]
            try:
                start.wait(600)
                for _ in range(INTERRUPTS):
                    index = int(rng.integers(len(works)))
                    interrupted(lambda index=index: compare(index), float(rng.uniform(1e-4, 3e-2)))
                    assert np.geterr() == settings
            finally:
                over.set()
            for job in jobs:
                job.result(timeout=600)
            assert blas_threads() == before
            for index in range(len(works)):
                compare(index)
    finally:
        signal.signal(signal.SIGALRM, old)


FAULTS = {"leaves settings behind": leaves_settings_behind}
