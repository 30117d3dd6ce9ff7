"""Threads of a call stop together, and a call that cannot have them does without."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import attention_core as ac
from attention_core.parallel import threads


def test_where_no_more_threads_may_start_a_call_does_without(rng, monkeypatch):
    query, key, value = rng.normal(size=(3, 4, 700, 64)).astype(np.float32)

    def call():
        return ac.attend(query, key, value, scorer="scaled_dot", workers=2).context

    may_start, started = threading.Thread.start, []

    def refused(thread):
        raise RuntimeError("can't start new thread")

    def allowed(thread):
        started.append(thread.name)
        may_start(thread)

    expected = call()
    threads._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", refused)
    np.testing.assert_array_equal(call(), expected)
    monkeypatch.setattr(threading.Thread, "start", allowed)  # it has them again when it can
    np.testing.assert_array_equal(call(), expected)
    assert "attention-core_0" in started


FINALIZED = """
import numpy as np, attention_core as ac

class Late:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print(ac.attend(x, x, x, scorer="scaled_dot", workers=2).context.shape)

x = np.ones((3000, 64), np.float32)
ac.attend(x[:1], x[:1], x[:1], scorer="scaled_dot")
Late()
"""


def test_a_finalizer_of_an_ending_interpreter_may_attend():
    command = [sys.executable, "-c", FINALIZED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(3000, 64)\n", "")


def test_a_signal_handler_may_attend_while_a_helper_is_started(rng, monkeypatch):
    x, inside = rng.normal(size=(700, 64)).astype(np.float32), []

    def call():
        return ac.attend(x, x, x, scorer="scaled_dot", workers=2).context

    expected, may_start = call(), threading.Thread.start

    def start_meanwhile(thread):
        monkeypatch.setattr(threading.Thread, "start", may_start)
        inside.append(call())
        may_start(thread)

    threads._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", start_meanwhile)
    outside = call()
    np.testing.assert_array_equal([outside, *inside], [expected, expected])


class Slow(ac.InnerProductScorer):
    """Takes a millisecond for each tile, and fails where and when it is told to."""

    cost_per_feature = 1000.0  # worth threads

    def __init__(self):
        self.calls = 0

    def fails(self):
        return False

    def score(self, query, key):
        self.calls += 1
        time.sleep(0.001)
        if self.fails():
            raise ValueError("no more")
        return super().score(query, key)


def test_a_failure_in_one_thread_stops_the_others_at_their_next_tile():
    main = threading.get_ident()

    class Failing(Slow):
        def fails(self):
            return threading.get_ident() != main

    scorer, x = Failing(), np.ones((2000, 4))
    with pytest.raises(ValueError, match="no more"):
        ac.attend(x, x, x, scorer=scorer, tile=(1000, 1), workers=2)
    assert scorer.calls < 500  # of 4,000


def test_an_interrupt_stops_the_other_threads_at_their_next_tile():
    class Interrupted(Slow):
        def fails(self):
            if self.calls >= 20:  # threads count at once, and may pass over a number
                raise KeyboardInterrupt
            return False

    scorer, x = Interrupted(), np.ones((2000, 4))
    with pytest.raises(KeyboardInterrupt):
        ac.attend(x, x, x, scorer=scorer, tile=(1000, 1), workers=2)
    assert scorer.calls < 500


def test_a_failure_outside_stops_the_calls_inside():
    main = threading.get_ident()
    inner, x = Slow(), np.ones((2000, 4))

    class Outer(Slow):
        def score(self, query, key):
            if threading.get_ident() != main:
                time.sleep(0.05)
                raise ValueError("outside")
            return ac.attend(x, x, x, scorer=inner, tile=(1000, 1), workers=2).context[:, :1]

    with pytest.raises(ValueError, match="outside"):
        ac.attend(x, x, x, scorer=Outer(), tile=(1000, 1), workers=2)
    assert inner.calls < 1000


INTERRUPTED = """
import os, sys, threading
import numpy as np, threadpoolctl, attention_core as ac
from attention_core.parallel import blas, threads
from concurrent.futures import _base, thread

class Nested(ac.InnerProductScorer):
    # attends while it scores, in whichever thread
    def score(self, query, key):
        ac.attend(y, y, y, scorer="dot")
        return super().score(query, key)

y = np.ones((3, 64), np.float32)
x = np.random.default_rng(0).normal(size=(1100, 64)).astype(np.float32)
nested = Nested()

def call():
    return ac.attend(x, x, x, scorer=nested, workers=2, tile=(300, 600)).context

FILES = {module.__file__ for module in (blas, threads, _base, thread, threading)}
seen, failed = set(), []

def trace(frame, event, arg):
    if frame.f_code.co_filename not in FILES:
        return None
    where = frame.f_code.co_filename, frame.f_lineno
    if event == "line" and where not in seen:
        seen.add(where)
        sys.settrace(None)
        if not np.array_equal(call(), expected):
            failed.append(where)
        sys.settrace(trace)
    return trace

threadpoolctl.threadpool_limits(2, user_api="blas")
had = [each.get_num_threads() for each in blas._libraries()]
expected = call()
threads._pool.cache_clear()
if sys.argv[1] == "callers":
    sys.settrace(trace)
else:
    threading.settrace(trace)  # new threads only: those of the pool
for _ in range(20):
    assert np.array_equal(call(), expected)
sys.settrace(None)
threading.settrace(None)
threads._pool().shutdown()  # calls may go on in its threads
assert not failed, failed
assert had == [each.get_num_threads() for each in blas._libraries()]
assert blas._hold.depth == 0
print(len(seen))
"""


@pytest.mark.parametrize("whose", ["callers", "helpers"])
def test_a_handler_or_finalizer_may_attend_between_any_two_lines(whose):
    """At every line of the library's locks, and of the pool's: right numbers and no hang."""
    command = [sys.executable, "-c", INTERRUPTED, whose]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 30
