"""Independent blocks of work on several threads, with BLAS limited to one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from threading import Condition
from typing import Any, TypeVar

from attention_core.parallel.blas import numerics, this_thread
from attention_core.parallel.helpers import Task, ask, available_cores

__all__ = ["WORTH_THREADS", "fold_blocks", "map_blocks", "run_blocks", "stop_if_asked"]

_MOST_EARLY = 2  # results that wait for earlier ones

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH_THREADS = 1_000_000.0
"""Below this much work, in nanoseconds, threads cost more than they save."""


def map_blocks(
    function: Callable[[Item], Result], items: Sequence[Item], *, cost: float, workers: int | None
) -> list[Result]:
    """Apply a function to every item, on threads when the work is worth it; results in order.

    The calling thread works too, so nested calls cannot wait for each other. The first exception,
    or an interrupt, stops the other threads at their next item and is raised.

    Parameters
    ----------
    cost
        An estimate of all work, in nanoseconds on one core.
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

    Results are added one at a time in a fixed order, so sums have the same bits for any number of
    threads. Threads that are ahead wait, so few results are kept.
    """
    early: dict[int, Result] = {}
    order = _longest_first(items)
    following = iter(order)
    expected = next(following, None)
    changed = Condition()

    def work(index: int) -> None:
        try:
            work_in_order(index)
        except BaseException:
            if changed._is_owned():  # type: ignore[attr-defined]  # interrupted before its block
                changed.release()
            raise

    def work_in_order(index: int) -> None:
        nonlocal expected
        with changed:
            while index != expected and len(early) >= _MOST_EARLY:
                changed.wait(0.1)  # an error in another thread changes nothing
                stop_if_asked()
        result = function(items[index])
        with changed:
            early[index] = result
            while expected in early:
                add(items[expected], early.pop(expected))
                expected = next(following, None)
            changed.notify_all()

    _run(work, order, cost, workers)


def _longest_first(items: Sequence[Any]) -> Sequence[int]:
    """The order of work: with causal order, later blocks have more keys and come first."""
    return range(len(items))[::-1]


def _run(
    work: Callable[[int], None], indices: Sequence[int], cost: float, workers: int | None
) -> None:
    with numerics() as again, again:
        run_blocks(work, indices, 1 if cost < WORTH_THREADS else workers)


def run_blocks(work: Callable[[int], None], indices: Sequence[int], workers: int | None) -> None:
    """Call a function that uses no BLAS for every index, on threads if there are several."""
    count = min(available_cores() if workers is None else workers, len(indices))
    if count <= 1 or this_thread.flag.locked():
        for index in indices:
            work(index)
    else:
        copy_context().run(_on_threads, work, indices, count)


class _Stopped(BaseException):
    """Raised in the threads of a call when another has failed or was interrupted."""


# Flags that stop the possibly nested calls this thread works for: a list that is not empty.
_stops: ContextVar[tuple[list[bool], ...]] = ContextVar("_stops", default=())


def stop_if_asked() -> None:
    """Raise an exception if the call of the current work has failed in another thread."""
    if any(_stops.get()):
        raise _Stopped


def _on_threads(work: Callable[[int], None], indices: Sequence[int], count: int) -> None:
    # pop() is atomic, also without the GIL, where next() on a shared iterator is not
    remaining = [*[None] * count, *reversed(indices)]  # each thread takes one None
    stopped: list[bool] = []
    _stops.set((*_stops.get(), stopped))  # in the context of this call, which ends with it

    def drain() -> None:
        try:
            for index in iter(remaining.pop, None):
                stop_if_asked()
                work(index)
        except BaseException:
            stopped.append(True)
            raise

    # in the caller's context, so that NumPy's error settings are the caller's
    tasks = [Task(partial(copy_context().run, drain)) for _ in range(count - 1)]
    try:
        for task in tasks:
            ask(task)
        drain()
        errors = _ended(tasks)
    except BaseException as error:  # noqa: BLE001 - raised below, once the helpers are done
        stopped.append(True)
        errors = [error, *_ended(tasks)]
    stopped.clear()  # copies of this context may outlive the call
    if errors:  # threads that only stopped carry no information
        raise min(errors, key=lambda error: isinstance(error, _Stopped))


def _ended(tasks: Sequence[Task[None]]) -> list[BaseException]:
    """Cancel tasks that no helper has started, wait for the rest, and return the errors."""
    return [error for task in tasks if (error := task.end()) is not None]
