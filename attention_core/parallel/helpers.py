"""Helper threads of a call, safe under signals, interrupts and finalizers between any two steps.

Executors and futures of the standard library are not: Python functions release their locks, an
interrupt may come before the first line of such a function, and the next call then waits forever.
Here, every step that must be atomic is a single C operation.
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
    """A function that another thread calls, unless it is canceled first."""

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
        """Cancel it, or wait until it has ended; return its error. Repeat it after an interrupt."""
        if self._state.setdefault("is", "withdrawn") == "running":
            with self._running:
                pass
        return self.error

    def result(self) -> Result:
        """Wait until it has ended; return the result of the function, or raise its error."""
        with self._running:
            pass
        if self.error is not None:
            raise self.error
        return self._results[0]


def elsewhere(function: Callable[[], Result]) -> Result:
    """Call a function in a separate thread, where Python handles no signals."""
    task = Task(function)
    try:
        _start(task.run)
    except RuntimeError:
        task.run()
    return task.result()


def ask(task: Task[Any]) -> None:
    """Let a free helper run a task; without helpers, the task waits for its `end`.

    There is one helper fewer than cores, since callers work too, but at least one.
    """
    helpers = _helpers()
    if helpers.count < max(1, available_cores() - 1):
        with suppress(RuntimeError):
            _start(_serve, helpers.tasks)
            helpers.count += 1  # after an interrupt before this, one more thread does no harm
    if helpers.count:
        helpers.tasks.put(task)


class _Helpers:
    def __init__(self) -> None:
        from queue import SimpleQueue  # small calls do not need it

        self.count = 0
        self.tasks: SimpleQueue[Task[Any]] = SimpleQueue()


@cache
def _helpers() -> _Helpers:
    return _Helpers()


if hasattr(os, "register_at_fork"):  # a forked child has no threads of its parent
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def _start(function: Callable[..., None], *args: object) -> None:
    """Start a thread; raises RuntimeError if no more can be started."""
    if sys.is_finalizing():  # Python 3.11 would start one that never runs
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
