"""Threads that help a call, whatever signal, interrupt or finalizer comes between two of its steps.

Executors and futures of the standard library do not survive that: functions of Python give back
their locks, an interrupt may come before the first line of such a function, and then the next call
waits for ever. Here whatever must not be halved is one operation of C.
"""

from __future__ import annotations

import os
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from queue import SimpleQueue

__all__ = ["Task", "ask", "available_cores", "elsewhere"]

Result = TypeVar("Result")


class Task(Generic[Result]):
    """A function that another thread calls, unless it is withdrawn first."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._results: list[Result] = []
        self._state: dict[str, str] = {}
        self._running = threading.Lock()
        self._running.acquire()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function, in the other thread."""
        if self._state.setdefault("is", "running") != "running":
            return
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001 - for the caller
            self.error = error
        finally:
            self._state["is"] = "ended"
            self._running.release()

    def end(self) -> BaseException | None:
        """Withdraw it, or wait until it has ended; its error. After an interrupt, call it again."""
        if self._state.setdefault("is", "withdrawn") == "running":
            with self._running:
                pass
        return self.error

    def result(self) -> Result:
        """Wait until it has ended; what the function returned, or its error."""
        with self._running:
            pass
        if self.error is not None:
            raise self.error
        return self._results[0]


def elsewhere(function: Callable[[], Result]) -> Result:
    """Call a function in a thread of its own, where Python handles no signals."""
    task = Task(function)
    try:
        _start(task.run)
    except RuntimeError:
        task.run()
    return task.result()


def ask(task: Task[Any]) -> None:
    """Have a helper run a task when one is free; without any, it only waits for its `end`.

    There is one helper fewer than cores, for callers work too, but at least one.
    """
    helpers = _helpers()
    if helpers.count < max(1, available_cores() - 1):
        with suppress(RuntimeError):
            _start(_serve, helpers.tasks)
            helpers.count += 1  # interrupted before this there is one more, which does no harm
    if helpers.count:
        helpers.tasks.put(task)


class _Helpers:
    def __init__(self) -> None:
        from queue import SimpleQueue  # small calls do without

        self.count = 0
        self.tasks: SimpleQueue[Task[Any]] = SimpleQueue()


@cache
def _helpers() -> _Helpers:
    return _Helpers()


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def _start(function: Callable[..., None], *args: object) -> None:
    """Begin a thread; a RuntimeError where there can be no more."""
    if sys.is_finalizing():  # Python 3.11 would begin one that never runs
        raise RuntimeError("the interpreter is about to end")
    start_new_thread(function, args)


def _serve(tasks: SimpleQueue[Task[Any]]) -> None:
    sys.settrace(threading.gettrace())  # for debuggers and coverage
    sys.setprofile(threading.getprofile())
    while True:
        tasks.get().run()


@cache
def available_cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
