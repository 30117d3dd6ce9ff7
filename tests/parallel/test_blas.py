"""BLAS is limited to one thread while any call needs it, and is restored exactly."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import threadpoolctl
from threadpoolctl import ThreadpoolController

import attention_core as ac
from attention_core.parallel import blas
from attention_core.parallel.blas import blas_on_one_thread, numerics


def blas_threads():
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library.get_num_threads() for library in libraries]


@pytest.fixture
def others():
    """A Python thread other than the main one, as in a pool or a server."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda function: pool.submit(function).result()


@pytest.fixture
def many():
    """BLAS has many threads before and after a test."""
    blas._libraries.cache_clear()  # other tests may have loaded libraries with another BLAS
    controller = ThreadpoolController()
    with controller.limit(limits=2, user_api="blas"):
        before = blas_threads()
        if 1 in before:
            pytest.skip("this BLAS has one thread only")
        yield before
        assert blas_threads() == before


@contextmanager
def another_inside():
    """Another thread limits BLAS to one thread; yields an event that releases that thread."""
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


def test_an_interrupt_while_blas_is_set_is_repaired_by_the_next_call(many, monkeypatch):
    def interrupted(library, count):
        raise KeyboardInterrupt

    monkeypatch.setattr(blas, "_set_threads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        blas_on_one_thread().__enter__()
    monkeypatch.undo()
    assert set(inside()) == {1}
    holding = blas_on_one_thread()
    holding.__enter__()
    monkeypatch.setattr(blas, "_set_threads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        holding.__exit__()
    monkeypatch.undo()
    assert set(inside()) == {1}
    assert blas_threads() == many


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork")  # of Python, or of JAX where another test imported it
def test_a_forked_child_has_none_of_its_parents_calls(many):
    with another_inside():
        child = os.fork()
        if child == 0:  # in any case it must neither continue with the tests nor hang
            signal.alarm(20)
            try:
                inside()
                code = 0 if not blas._hold.calls and blas_threads() == many else 1
            except BaseException:  # noqa: BLE001 - the exit code tells the parent
                code = 2
            os._exit(code)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_numerics_is_quiet_and_gives_back_the_settings(many):
    with np.errstate(over="raise"):
        before = np.geterr()
        with numerics() as again, again:
            assert set(blas_threads()) == {1}
            assert set(np.geterr().values()) == {"ignore"}
        assert np.geterr() == before


def test_an_interrupt_of_the_search_is_raised_and_loses_no_library(many, monkeypatch):
    main, search = threading.get_ident(), blas._search

    def interrupted():
        assert threading.get_ident() != main  # where a callback of C would swallow it
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        return search()

    monkeypatch.setattr(blas, "_search", interrupted)
    blas._libraries.cache_clear()
    with pytest.raises(KeyboardInterrupt):
        inside()
    monkeypatch.undo()
    assert set(inside()) == {1}


def test_a_failing_search_for_blas_is_not_lost(monkeypatch):
    def failing():
        raise OSError("no such library")

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", failing)
    blas._libraries.cache_clear()
    with pytest.raises(OSError, match="no such library"):
        blas._libraries()
