"""Forks: a child lacks the other threads of its parent, so a fork waits for what they must end."""

from __future__ import annotations

import importlib
import os
import threading
from contextlib import suppress
from importlib import _bootstrap

__all__ = ["COMPILING"]

COMPILING = threading.RLock()
"""Held while numba is imported or compiles. A fork waits for it; it is free in the child."""

_IMPORTED = {"attention_core", "attention_core_standard", "numpy", "scipy", "threadpoolctl"}
"""The packages of modules that calls import."""


def _finish_imports() -> None:
    """Wait until no other thread is importing a module that a call of attention imports.

    Its lock would stay locked in the child, whose first import of the module would wait forever.
    Python itself keeps two threads from waiting for each other's imports.
    """
    finished: set[str] = set()
    while pending := {name for name in list(_locks()) if _is_imported(name)} - finished:
        for name in pending:
            with suppress(Exception):  # the thread that imports it raises it
                importlib.import_module(name)
        finished |= pending


def _locks() -> dict[str, object]:
    """The locks of modules that are being imported, by name."""
    # private: nothing public names a module that is still being found, as `sys.modules` lacks it
    return getattr(_bootstrap, "_module_locks", {})


def _is_imported(name: str) -> bool:
    return name.partition(".")[0] in _IMPORTED


def _before() -> None:
    COMPILING.acquire()
    _finish_imports()  # last, as it must be true when the fork happens


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=COMPILING.release, after_in_child=COMPILING.release
    )
