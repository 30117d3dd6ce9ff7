"""Signals at random moments of calls: raised immediately, and no state is left behind."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any
from unittest import mock

import numpy as np
import threadpoolctl

import attention_core as ac
from campaign.calls import Rng, random_call
from campaign.concurrency import everything, large_call

QUICK = 2
INTERRUPTS = 20


class Alarm(BaseException):
    """An exception that no library should catch."""


def ring(*_: object) -> None:
    raise Alarm


def interrupted(function: Any, seconds: float) -> bool:
    """Call a function until a signal arrives after some time; return whether it was raised."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            while signal.getitimer(signal.ITIMER_REAL)[0] > 0:
                function()
            time.sleep(0.01)  # a timer is at 0 shortly before its signal arrives
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (Alarm, KeyboardInterrupt):
        return True


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]


def check(rng: Rng) -> None:
    prepared = []
    for call in [random_call(rng), large_call(rng), large_call(rng)]:
        memory = ac.Memory(call.case.scorer, call.key, call.value)
        result = ac.attend(call.query, call.key, call.value, scorer=call.case.scorer)
        prepared.append((call, rng.standard_normal(result.context.shape), memory))
    expected = [everything(*each) for each in prepared]
    settings, threads = np.geterr(), threading.active_count()
    old = signal.signal(signal.SIGALRM, ring)
    try:
        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            before = blas_threads()
            for _ in range(INTERRUPTS):
                each = prepared[int(rng.integers(len(prepared)))]
                interrupted(lambda each=each: everything(*each), float(rng.uniform(1e-4, 2e-2)))
                assert np.geterr() == settings
                assert blas_threads() == before
    finally:
        signal.signal(signal.SIGALRM, old)
    assert threading.active_count() <= threads + 8
    for each, wanted in zip(prepared, expected, strict=True):
        for ours, theirs in zip(everything(*each), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def leaves_settings_behind() -> mock.mock._patch:
    attend = ac.attend

    def careless(*args, **options):
        before = np.seterr(all="ignore")
        result = attend(*args, **options)
        np.seterr(**before)
        return result

    return mock.patch.object(ac, "attend", careless)


FAULTS = {"leaves settings behind": leaves_settings_behind}
