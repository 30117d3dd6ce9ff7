"""Holding BLAS to one thread while a call needs it, and the floating-point settings of a call."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

__all__ = ["blas_on_one_thread", "numerics", "this_thread"]


class _ThisThread(threading.local):
    holds = 0
    """How often this thread is inside `blas_on_one_thread`; a forked child keeps these only."""
    is_busy = False
    """Whether this thread may hold a lock of the library or of its thread pool.

    Signal handlers and finalizers that attend at such a moment work without other threads: one of
    those could wait for the lock, and this thread for it.
    """


this_thread = _ThisThread()


@cache
def _libraries() -> Sequence[Any]:
    from threadpoolctl import ThreadpoolController  # the smallest calls do without

    libraries: Sequence[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


def _set_threads(library: Any, count: int) -> None:
    """Set the number of a library's threads, whichever thread did so before.

    threadpoolctl lets one thread control OpenBLAS and silently ignores the others; here the lock
    of `blas_on_one_thread` keeps them from disagreeing.
    """
    release = getattr(library, "clear_controlling_thread", None)  # since threadpoolctl 3.8
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)


class _Hold:
    """The state of the process: how many calls are inside, and what BLAS had before.

    The lock is held only while numbers are compared and set. It is re-entrant, and each step leaves
    a state from which another call may begin, because a signal handler or a finalizer may run
    between any two of them: `before` is known before anything is set, and forgotten only when BLAS
    has it again.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.is_set = False
        self.before: list[int] = []

    def enter(self) -> None:
        libraries = _libraries()  # the search takes long, so it comes before the lock
        was_busy, this_thread.is_busy = this_thread.is_busy, True
        try:
            with self.lock:
                self.depth += 1
                this_thread.holds += 1
                try:
                    if not self.is_set:
                        counts = [library.get_num_threads() for library in libraries]
                        self.before = self.before or counts
                        self._set([1] * len(libraries))
                        self.is_set = True
                except BaseException:  # an interrupt: __exit__ will not be called
                    self.leave()
                    raise
        finally:
            this_thread.is_busy = was_busy

    def leave(self) -> None:
        was_busy, this_thread.is_busy = this_thread.is_busy, True
        try:
            with self.lock:
                self.depth -= 1
                this_thread.holds -= 1
                if self.depth == 0:
                    self.is_set = False
                    self._set(self.before)
                    self.before = []
        finally:
            this_thread.is_busy = was_busy

    def _set(self, counts: list[int]) -> None:
        # interrupted before `before` was known, there is nothing to give back
        for library, before, count in zip(_libraries(), self.before, counts, strict=False):
            if before != 1:
                _set_threads(library, count)

    def start_afresh(self) -> None:
        """Forget the other threads, in a forked child, and set BLAS again at the next call."""
        self.lock = threading.RLock()
        self.depth = this_thread.holds
        self.is_set = self.is_set and self.depth > 0


_hold = _Hold()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold.start_afresh)


class blas_on_one_thread:
    """``with blas_on_one_thread():`` holds BLAS to one thread while any call needs it.

    Threads of BLAS would compete with those of a call for the cores, and their number changes the
    last bits of a product. The setting belongs to the process, so calls are counted: the last to
    leave gives back what BLAS had before.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        _hold.enter()

    def __exit__(self, *_: object) -> None:
        _hold.leave()


class numerics:
    """``with numerics():`` surrounds the arithmetic of a call.

    NaN and Inf in the inputs are results, not accidents, so NumPy does not warn of them; BLAS is
    held to one thread.
    """

    __slots__ = ("_settings",)

    def __enter__(self) -> None:
        _hold.enter()
        self._settings = np.errstate(all="ignore")
        self._settings.__enter__()

    def __exit__(self, *_: object) -> None:
        self._settings.__exit__(None, None, None)
        _hold.leave()
