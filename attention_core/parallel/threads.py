"""Running independent blocks of work on several threads, with BLAS held to one thread each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import cache
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from attention_core.parallel.blas import blas_on_one_thread, this_thread

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["WORTH_THREADS", "available_cores", "fold_blocks", "map_blocks", "stop_if_asked"]

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH_THREADS = 1_000_000.0
"""Below this much work, in nanoseconds, threads cost more than they give."""


def map_blocks(
    function: Callable[[Item], Result], items: Sequence[Item], *, cost: float, workers: int | None
) -> list[Result]:
    """Apply a function to every item, on threads when the work is worth it; results in order.

    The calling thread works too, so nested calls cannot wait for each other. The first exception,
    or an interrupt, stops the other threads at their next item and is raised.

    Parameters
    ----------
    cost
        An estimate of the whole work, in nanoseconds on one core.
    workers
        The number of threads; None for every core.
    """
    results: dict[int, Result] = {}

    def work(index: int) -> None:
        results[index] = function(items[index])

    _run(work, _longest_first(items), cost, workers)
    return [results[index] for index in range(len(items))]


def fold_blocks(
    function: Callable[[Item], Result],
    add: Callable[[Item, Result], object],
    items: Sequence[Item],
    *,
    cost: float,
    workers: int | None,
) -> None:
    """Apply a function to every item as `map_blocks` does, and pass each result to `add`.

    Results are added one at a time and in one order, whichever thread is first: sums have the same
    bits however many threads there are.
    """
    early: dict[int, Result] = {}
    order = _longest_first(items)
    following = iter(order)
    expected = next(following, None)
    lock = Lock()

    def work(index: int) -> None:
        nonlocal expected
        result = function(items[index])
        with lock:
            early[index] = result
            while expected in early:
                add(items[expected], early.pop(expected))
                expected = next(following, None)

    _run(work, order, cost, workers)


def _longest_first(items: Sequence[Any]) -> Sequence[int]:
    """The order to work in: later blocks have more keys where keys are in causal order."""
    return range(len(items))[::-1]


def _run(
    work: Callable[[int], None], indices: Sequence[int], cost: float, workers: int | None
) -> None:
    count = min(available_cores() if workers is None else workers, len(indices))
    with blas_on_one_thread():
        if count <= 1 or cost < WORTH_THREADS:
            for index in indices:
                work(index)
        else:
            _on_threads(work, indices, count)


class _Stopped(BaseException):
    """Raised in the threads of a call when another has failed or was interrupted."""


# The events that stop the calls this thread works for, which may be inside each other.
_stops: ContextVar[tuple[Event, ...]] = ContextVar("_stops", default=())


def stop_if_asked() -> None:
    """Leave the work at hand, by an exception, if its call has failed in another thread."""
    if any(event.is_set() for event in _stops.get()):
        raise _Stopped


def _on_threads(work: Callable[[int], None], indices: Sequence[int], count: int) -> None:
    from concurrent.futures import Future  # small calls do without

    remaining = iter(indices)  # next() on it is atomic
    stopped = Event()

    def drain() -> None:
        try:
            for index in remaining:
                stop_if_asked()
                work(index)
        except BaseException:
            stopped.set()
            raise

    helpers: list[Future[None]] = []
    before = _stops.set((*_stops.get(), stopped))
    own: BaseException | None = None
    try:
        for _ in range(count - 1):
            helpers.append(Future())
            # in the caller's context, so that NumPy's error settings are the caller's
            _submit(copy_context().run, _fulfill, helpers[-1], drain)
        drain()
    except BaseException as error:  # noqa: BLE001 - raised below, once the helpers are done
        stopped.set()
        own = error
    finally:
        _stops.reset(before)
    try:
        errors = _withdraw(helpers)
    except BaseException:  # an interrupt while the others finish
        stopped.set()
        _withdraw(helpers)
        raise
    if own is not None:
        errors.insert(0, own)
    if errors:  # of these, those that only stopped say nothing
        raise min(errors, key=lambda error: isinstance(error, _Stopped))


def _fulfill(future: Future[None], function: Callable[[], None]) -> None:
    """Call a function, unless its future is canceled; the future has the exception."""
    if not future.set_running_or_notify_cancel():
        return
    was_busy, this_thread.is_busy = this_thread.is_busy, False
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - the caller raises it
        future.set_exception(error)
    else:
        future.set_result(None)
    finally:
        this_thread.is_busy = was_busy


def _withdraw(futures: Sequence[Future[None]]) -> list[BaseException]:
    """Cancel what no thread has begun and wait for the rest; the exceptions."""
    begun = [future for future in futures if not future.cancel()]
    return [error for future in begun if (error := future.exception()) is not None]


def _submit(function: Callable[..., None], *args: Any) -> None:
    """Have the pool call a function, if it can.

    It cannot where the system, or an interpreter about to end, allows no more threads, nor for a
    signal handler or a finalizer inside the pool's own code, whose locks are not re-entrant.
    """
    if this_thread.is_busy:
        return
    try:
        this_thread.is_busy = True
        with suppress(RuntimeError):
            _pool().submit(function, *args)
    finally:
        this_thread.is_busy = False


@cache
def _pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    def begin() -> None:
        this_thread.is_busy = True  # but for the functions it is given

    return ThreadPoolExecutor(
        max(1, available_cores() - 1), thread_name_prefix="attention-core", initializer=begin
    )


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


@cache
def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
