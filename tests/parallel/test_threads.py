"""Threads of a call stop together; BLAS is held to one thread, and let go when all are done."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import threadpoolctl
from threadpoolctl import ThreadpoolController

import attention_core as ac
from attention_core.parallel import threads
from attention_core.parallel.threads import blas_on_one_thread


def blas_threads():
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library.get_num_threads() for library in libraries]


@pytest.fixture
def others():
    """A thread of Python that is not the main one, as a pool or a server has it."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function: pool.submit(function).result()


@pytest.fixture
def many():
    """BLAS has many threads before a test, and has them again after it."""
    controller = ThreadpoolController()
    with controller.limit(limits=2, user_api="blas"):
        before = blas_threads()
        if 1 in before:
            pytest.skip("this BLAS has one thread only")
        yield before
        assert blas_threads() == before


@contextmanager
def another_inside():
    """While another thread holds BLAS to one thread; gives what lets that thread go."""
    is_inside, may_leave = threading.Event(), threading.Event()

    def stay():
        with blas_on_one_thread():
            is_inside.set()
            may_leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(stay)

        def leave():
            may_leave.set()
            staying.result()

        is_inside.wait(10)
        yield leave
        leave()


def inside():
    with blas_on_one_thread():
        return blas_threads()


@pytest.mark.parametrize("first", ["main", "other"])
def test_every_thread_can_hold_blas_to_one_thread(many, others, first):
    asked = [inside, lambda: others(inside)]
    for ask in asked if first == "main" else asked[::-1]:
        assert set(ask()) == {1}
        assert blas_threads() == many


def test_the_last_to_leave_lets_it_go(many):
    first = blas_on_one_thread()
    first.__enter__()
    with another_inside() as leave:
        first.__exit__()
        assert set(blas_threads()) == {1}
        leave()
        assert blas_threads() == many


def test_every_thread_gets_the_same_bits(rng, many, others):
    query, key, value = rng.normal(size=(3, 4, 700, 64)).astype(np.float32)

    def call():
        return ac.attend(query, key, value, scorer="scaled_dot").context

    expected = call()
    for _ in range(3):
        np.testing.assert_array_equal(others(call), expected)


def test_what_is_lost_on_its_way_out_is_not_inside(many):
    blas_on_one_thread().__enter__()  # an interrupt came before the body of the with statement
    assert set(blas_threads()) == {1}
    with blas_on_one_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == many


def test_an_interrupt_while_blas_is_set_is_mended_by_the_next_call(many, monkeypatch):
    def interrupted(library, count):
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "_set_threads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        blas_on_one_thread().__enter__()
    monkeypatch.undo()
    assert set(inside()) == {1}
    holding = blas_on_one_thread()
    holding.__enter__()
    monkeypatch.setattr(threads, "_set_threads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        holding.__exit__()
    monkeypatch.undo()
    assert set(inside()) == {1}
    assert blas_threads() == many


def test_an_interrupt_while_blas_is_searched_for_is_not_lost(monkeypatch):
    @ctypes.CFUNCTYPE(None)
    def callback():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)  # time for Python to raise it here, where it would only be printed

    class Searching(ThreadpoolController):
        def __init__(self):
            callback()
            super().__init__()

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Searching)
    threads._blas.cache_clear()
    with pytest.raises(KeyboardInterrupt):
        threads._blas()
    monkeypatch.undo()
    assert threads._blas()


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
    threads._helpers.cache_clear()
    threads._blas.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", refused)
    np.testing.assert_array_equal(call(), expected)
    assert threads._helpers()._tasks.empty()
    monkeypatch.setattr(threading.Thread, "start", allowed)  # it has them again when it can
    np.testing.assert_array_equal(call(), expected)
    assert "attention-core-0" in started


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

    threads._helpers.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", start_meanwhile)
    outside = call()
    np.testing.assert_array_equal([outside, *inside], [expected, expected])


def test_a_failing_search_for_blas_is_not_lost(monkeypatch):
    def failing():
        raise OSError("no such library")

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", failing)
    threads._blas.cache_clear()
    with pytest.raises(OSError, match="no such library"):
        threads._blas()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_none_of_its_parents_calls(many):
    with another_inside():
        child = os.fork()
        if child == 0:  # whatever happens, it must not go on with the tests, nor hang
            signal.alarm(20)
            try:
                inside()
                code = 0 if not blas_on_one_thread._inside and blas_threads() == many else 1
            except BaseException:  # noqa: BLE001 - the exit code tells the parent
                code = 2
            os._exit(code)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


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
