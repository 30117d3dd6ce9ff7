"""Running independent blocks of work on several threads, with BLAS held to one thread each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import cache, partial
from threading import Event, Lock, Thread, get_ident
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from queue import SimpleQueue

__all__ = [
    "WORTH_THREADS",
    "available_cores",
    "blas_on_one_thread",
    "fold_blocks",
    "map_blocks",
    "stop_if_asked",
]

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
    """Apply a function to every item as `map_blocks` does, and give each result to `add` at once.

    One at a time and in one order, whichever thread is first: sums have the same bits however many
    threads there are.
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

    before = _stops.set((*_stops.get(), stopped))
    # each helper works in the caller's context, so NumPy's error settings are the caller's
    tasks = [_helpers().ask(partial(copy_context().run, drain)) for _ in range(count - 1)]
    own: _Stopped | None = None
    try:
        drain()
    except _Stopped as stop:
        own = stop
    finally:
        _stops.reset(before)
        try:
            errors = [error for task in tasks if (error := task.withdraw()) is not None]
        except BaseException:  # an interrupt while the others finish
            stopped.set()
            for task in tasks:
                task.withdraw()
            raise
    if own is not None:
        errors.append(own)
    if errors:  # of these, those that only stopped say nothing
        raise min(errors, key=lambda error: isinstance(error, _Stopped))


@cache
def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Task:
    """A function that a helper may call, unless the caller is done before a helper comes."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._taken = Lock()
        self._running = Lock()  # held until the function has returned
        self._running.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Call the function, if it is not withdrawn."""
        if self._taken.acquire(blocking=False):
            try:
                self._function()
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                self._error = error
            finally:
                self._running.release()

    def withdraw(self) -> BaseException | None:
        """Withdraw it, or wait for it if a helper has started; what it raised."""
        if self._taken.acquire(blocking=False):
            self._running.release()  # nobody will run it
        with self._running:
            return self._error


class _Helpers:
    """Threads that wait for tasks; few, so that those which worked last work next, memory warm.

    They are daemons: a call waits for the helpers it has, and nobody else needs to.
    """

    def __init__(self, count: int) -> None:
        from queue import SimpleQueue  # small calls do without

        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._count = count
        self._unstarted = list(range(count))

    def ask(self, function: Callable[[], None]) -> _Task:
        """Have a function called by the next helper that is free; by none where there are none."""
        task = _Task(function)
        while self._unstarted:  # without a lock: signal handlers and finalizers ask meanwhile
            with suppress(IndexError):  # another call took the last
                number = self._unstarted.pop()
                if _started(self._serve, f"attention-core-{number}") is None:
                    self._unstarted.append(number)
                    break
        if len(self._unstarted) < self._count:
            self._tasks.put(task)
        return task

    def _serve(self) -> None:
        while True:
            self._tasks.get().run()


def _started(function: Callable[[], None], name: str) -> Thread | None:
    """A daemon; None where the system, or an interpreter about to end, allows no more threads."""
    if sys.is_finalizing():  # some versions would have us wait for ever
        return None
    thread = Thread(target=function, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


@cache
def _helpers() -> _Helpers:
    return _Helpers(max(1, available_cores() - 1))


def _start_afresh() -> None:
    """A forked child has none of its parent's threads."""
    _helpers.cache_clear()
    kind = blas_on_one_thread
    kind._lock = Lock()
    kind._inside = WeakSet(each for each in kind._inside if each.thread == get_ident())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


@cache
def _blas() -> Sequence[Any]:
    from threadpoolctl import ThreadpoolController  # the smallest calls do without

    found: list[Any] = []

    def look() -> None:
        found.extend(ThreadpoolController().select(user_api="blas").lib_controllers)

    # Its search may run in callbacks of C code, where an interrupt would be lost without a word.
    # Python raises interrupts in the main thread, so the search is in one of its own.
    task = _Task(look)
    searcher = _started(task.run, "attention-core-blas")
    if searcher is None:
        task.run()
    else:
        searcher.join()
    error = task.withdraw()
    if error is not None:
        raise error
    return found


def _set_threads(library: Any, count: int) -> None:
    """Set the number of a library's threads, whichever thread did so before.

    threadpoolctl has one thread in control of OpenBLAS and ignores the others without a word; here
    the lock of `blas_on_one_thread` sees to it that they do not disagree.
    """
    release = getattr(library, "clear_controlling_thread", None)  # since threadpoolctl 3.8
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)


class blas_on_one_thread:
    """``with blas_on_one_thread():`` holds BLAS to one thread while any call needs it.

    Threads of its own would fight those of a call for the cores, and their number changes the
    last bits of a product. The setting belongs to the process, so calls say who is inside.

    An interrupt may come at any moment. One that is lost on its way in or out is no longer inside
    once it is forgotten, and what BLAS had before is kept until it has it again.
    """

    _inside: ClassVar[WeakSet[blas_on_one_thread]] = WeakSet()
    _before: ClassVar[list[int]] = []
    _lock: ClassVar[Lock] = Lock()

    def __enter__(self) -> None:
        kind = blas_on_one_thread
        self.thread = get_ident()
        libraries = _blas()  # the search is long, and nobody should wait for the lock meanwhile
        with kind._lock:
            if not kind._inside:
                kind._before = kind._before or [each.get_num_threads() for each in libraries]
                for library, count in zip(libraries, kind._before, strict=True):
                    if count != 1:
                        _set_threads(library, 1)
            kind._inside.add(self)

    def __exit__(self, *_: object) -> None:
        kind = blas_on_one_thread
        with kind._lock:
            kind._inside.discard(self)
            if not kind._inside:
                for library, count in zip(_blas(), kind._before, strict=True):
                    if count != 1:
                        _set_threads(library, count)
                kind._before = []
