"""BLAS is held to one thread by whichever thread of Python asks, and let go when all are done."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

import attention_core as ac
from attention_core.parallel import blas_on_one_thread


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
    is_inside, may_leave = threading.Event(), threading.Event()

    def stay():
        with blas_on_one_thread():
            is_inside.set()
            may_leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with blas_on_one_thread():
            staying = pool.submit(stay)
            is_inside.wait(10)
        assert set(blas_threads()) == {1}
        may_leave.set()
        staying.result()
    assert blas_threads() == many


def test_every_thread_gets_the_same_bits(rng, many, others):
    query, key, value = rng.normal(size=(3, 4, 700, 64)).astype(np.float32)

    def call():
        return ac.attend(query, key, value, scorer="scaled_dot").context

    expected = call()
    for _ in range(3):
        np.testing.assert_array_equal(others(call), expected)
