"""Threads of a call stop together, and calls work without threads."""

import signal
import subprocess
import sys
import threading
import time
from contextvars import copy_context

import numpy as np
import pytest

import attention_core as ac
from attention_core.parallel import blas, helpers, threads


def test_a_call_works_if_no_thread_can_start(rng, monkeypatch):
    query, key, value = rng.normal(size=(3, 4, 700, 64)).astype(np.float32)

    def call():
        return ac.attend(query, key, value, scorer="scaled_dot", workers=2).context

    may_start, started = helpers.start_new_thread, []

    def refused(function, args):
        raise RuntimeError("can't start new thread")

    def allowed(function, args):
        started.append(function)
        may_start(function, args)

    expected = call()
    helpers._helpers.cache_clear()
    monkeypatch.setattr(helpers, "start_new_thread", refused)
    np.testing.assert_array_equal(call(), expected)
    monkeypatch.setattr(helpers, "start_new_thread", allowed)  # it uses threads again when it can
    np.testing.assert_array_equal(call(), expected)
    assert started


class Unshared(list):
    """A list whose iterators serve one thread only, as those of `range` without the GIL."""

    def __iter__(self):
        for index in range(len(self)):
            time.sleep(0.001)
            yield self[index]


def test_threads_share_no_iterator():
    done = []
    threads.run_blocks(done.append, Unshared(range(50)), workers=2)
    assert sorted(done) == list(range(50))


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

    expected, may_start = call(), helpers.start_new_thread

    def start_meanwhile(function, args):
        monkeypatch.setattr(helpers, "start_new_thread", may_start)
        inside.append(call())
        may_start(function, args)

    helpers._helpers.cache_clear()
    monkeypatch.setattr(helpers, "start_new_thread", start_meanwhile)
    outside = call()
    np.testing.assert_array_equal([outside, *inside], [expected, expected])


class Slow(ac.InnerProductScorer):
    """Takes a millisecond for each tile, and fails at a given tile."""

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
            if self.calls >= 20:  # threads count concurrently, and may skip a number
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


def test_a_context_copied_within_a_failed_call_may_attend_later():
    """Threads that a scorer starts and keeps may have inherited it."""
    contexts, x = [], np.ones((2000, 4))

    class Copying(Slow):
        def fails(self):
            contexts.append(copy_context())
            return True

    with pytest.raises(ValueError, match="no more"):
        ac.attend(x, x, x, scorer=Copying(), tile=(1000, 1), workers=2)
    for context in contexts:
        context.run(ac.attend, x, x, x, scorer=Slow(), tile=(1000, 1000), workers=2)


REENTERED = """
import sys, threading
import numpy as np, threadpoolctl, attention_core as ac
from attention_core.parallel import blas, helpers, threads

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

FILES = {module.__file__ for module in (blas, helpers, threads)}
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
helpers._helpers.cache_clear()
if sys.argv[1] == "callers":
    sys.settrace(trace)
else:
    threading.settrace(trace)  # new threads only: the helpers
for _ in range(20):
    assert np.array_equal(call(), expected)
sys.settrace(None)
threading.settrace(None)
assert not failed, failed
assert had == [each.get_num_threads() for each in blas._libraries()]
assert not blas._hold.calls
print(len(seen))
"""


@pytest.mark.parametrize("whose", ["callers", "helpers"])
def test_a_handler_or_finalizer_may_attend_between_any_two_lines(whose):
    """Interrupts at every line that acquires or releases anything: right numbers and no hang."""
    assert int(python(REENTERED, whose)) > (40 if whose == "callers" else 10)


class Interrupting:
    """A lock whose first acquisition succeeds and is interrupted before it returns."""

    def __init__(self):
        self.lock, self.calls = threading.RLock(), 0

    def acquire(self, *args):
        held = self.lock.acquire(*args)
        self.calls += 1
        if self.calls == 1:
            raise KeyboardInterrupt
        return held

    def __getattr__(self, name):
        return getattr(self.lock, name)

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


def in_time(function):
    """Whether a function ends in another thread."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_a_lock_that_an_interrupt_leaves_is_given_back(monkeypatch):
    def hold():
        with blas.numerics():
            pass

    monkeypatch.setattr(blas._hold, "lock", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        hold()
    assert not blas.this_thread.flag.locked()
    assert in_time(hold)


def test_a_fold_that_is_interrupted_at_its_lock_ends(monkeypatch):
    monkeypatch.setattr(threads, "Condition", lambda: threading.Condition(Interrupting()))

    def fold():
        with pytest.raises(KeyboardInterrupt):
            threads.fold_blocks(lambda item: item, lambda *_: None, range(8), cost=1e9, workers=2)

    assert in_time(fold)


STORM = """
import random, signal
import numpy as np, threadpoolctl
from attention_core.parallel import blas, threads

class Alarm(BaseException):
    pass

def ring(*_):
    raise Alarm

def many(function, count):
    # signals at random moments, one at a time
    rung = 0
    while rung < count:
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 4e-3))
                while True:
                    assert np.array_equal(function(), expected)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Alarm:
            rung += 1

random.seed(0)
x = np.random.default_rng(0).normal(size=(700, 64)).astype(np.float32)

def call():
    return threads.map_blocks(lambda i: x[i::7] @ x.T, range(7), cost=1e9, workers=2)

threadpoolctl.threadpool_limits(2, user_api="blas")
had = [each.get_num_threads() for each in blas._libraries()]
expected = call()
signal.signal(signal.SIGALRM, ring)
many(call, 300)
assert np.array_equal(call(), expected)
assert had == [each.get_num_threads() for each in blas._libraries()]
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_signals_at_random_moments():
    python(STORM)


def python(code, *arguments):
    """The output of a program in a separate process, which must not fail, warn or hang."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
