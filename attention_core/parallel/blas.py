"""BLAS limited to one thread during a call, and the floating-point settings of a call."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, Self

import numpy as np

from attention_core.parallel.helpers import elsewhere

__all__ = ["blas_on_one_thread", "numerics", "this_thread"]


class _ThisThread(threading.local):
    """Whether this thread may hold the lock of `_Hold`: `flag` is taken.

    Signal handlers and finalizers that attend at such a moment use no other threads, which could
    wait for the lock while this thread waits for them. The flag is a lock, since a lock is acquired
    and released in one step that no signal can interrupt.
    """

    def __init__(self) -> None:
        self.flag = threading.Lock()


this_thread = _ThisThread()


@cache
def _libraries() -> Sequence[Any]:
    """The BLAS libraries of this process.

    The search is a C callback, in which an interrupt is lost together with the current library.
    """
    return elsewhere(_search)


def _search() -> Sequence[Any]:
    from threadpoolctl import ThreadpoolController  # the smallest calls do not need it

    libraries: Sequence[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


def _set_threads(library: Any, count: int) -> None:
    """Set the number of threads of a library, even if another thread set it before.

    threadpoolctl 3.8 lets one thread control OpenBLAS, silently ignores the others, and takes a
    lock that an interrupt may leave locked. The function behind that does neither; here the lock
    of `_Hold` keeps threads from disagreeing.
    """
    getattr(library, "_real_set_num_threads", library.set_num_threads)(count)


class _Hold:
    """The active calls, each with its thread, and the settings of BLAS before the first.

    An interrupt, or a signal handler or finalizer that attends, may come between any two steps.
    Therefore there is no counter: `settle` sets BLAS to what the active calls need, whatever its
    present state, and may be repeated if it was not finished. `before` is stored before anything is
    set, and dropped only after BLAS is restored.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calls: dict[object, int] = {}
        self.is_set = False
        self.before: list[int] = []

    def enter(self, call: object) -> None:
        self.calls[call] = threading.get_ident()
        self.settle()

    def leave(self, call: object) -> None:
        self.calls.pop(call, None)
        if self.before and not self.calls:
            self.settle()

    def settle(self) -> None:
        libraries = _libraries()  # the search is slow, so it comes before the lock
        flag = this_thread.flag
        is_inside = flag.locked()
        try:
            with nullcontext() if is_inside else flag, self.lock:
                self._settle(libraries)
        except BaseException:  # since Python 3.14 one may come between a lock and its block
            if not is_inside:
                if self.lock._is_owned():  # type: ignore[attr-defined]  # as `Condition` asks it
                    self.lock.release()
                if flag.locked():
                    flag.release()
            raise

    def _settle(self, libraries: Sequence[Any]) -> None:
        if not self.calls:
            self.is_set = False
            self._set(self.before)
            self.before = []
        elif not self.is_set:
            counts = [library.get_num_threads() for library in libraries]
            self.before = self.before or counts
            self._set([1] * len(libraries))
            self.is_set = True

    def _set(self, counts: list[int]) -> None:
        for library, before, count in zip(_libraries(), self.before, counts, strict=False):
            if before != 1:
                _set_threads(library, count)

    def start_afresh(self) -> None:
        """Forget other threads, in a forked child, and set BLAS again at the next call."""
        mine = threading.get_ident()
        self.lock = threading.RLock()
        self.calls = {call: thread for call, thread in self.calls.items() if thread == mine}
        self.is_set = self.is_set and bool(self.calls)


_hold = _Hold()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_hold.start_afresh)


class blas_on_one_thread:
    """``with blas_on_one_thread():`` limits BLAS to one thread while any call needs it.

    Threads of BLAS would compete for the cores with those of a call, and their number changes the
    last bits of a product. The setting belongs to the process: the last call to leave restores it.

    An interrupt during entry or exit is raised, and BLAS is restored. Python may also raise one
    before the first line of ``__exit__``. Blocks that must be safe even then enter twice, with
    ``with blas_on_one_thread() as again, again:``, since leaving twice does no harm.
    """

    def __enter__(self) -> Self:
        _libraries()  # if the search is interrupted, there is nothing to restore
        try:
            self._begin()
            return self
        except BaseException:
            self._end()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._end()
        except BaseException:  # an interrupt: what was done stays done
            self._end()
            raise

    def _begin(self) -> None:
        _hold.enter(self)

    def _end(self) -> None:
        _hold.leave(self)


class numerics(blas_on_one_thread):
    """``with numerics():`` surrounds the arithmetic of a call.

    NaN and Inf in the inputs are results, not accidents, so NumPy does not warn about them. BLAS is
    limited to one thread.
    """

    _before: tuple[Any, int] | None = None

    def _begin(self) -> None:
        super()._begin()
        self._before = self._before or (np.geterr(), np.getbufsize())
        np.seterr(all="ignore")

    def _end(self) -> None:
        if self._before is not None:
            settings, size = self._before
            np.seterr(**settings)
            np.setbufsize(size)  # scorers set it themselves
            self._before = None
        super()._end()
