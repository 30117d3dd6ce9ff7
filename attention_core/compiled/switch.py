"""The switch for compiled scorers, and the lock around compilation."""

from __future__ import annotations

import os
import threading
from functools import cache

__all__ = ["LOCK", "is_switched_on"]

LOCK = threading.RLock()
"""Held while numba is imported or compiles. A fork waits for it; it is free in the child."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )


def is_switched_on() -> bool:
    """Whether numba is installed, and ``ATTENTION_CORE_COMPILED`` is not 0."""
    return os.environ.get("ATTENTION_CORE_COMPILED", "1") != "0" and _is_installed()


@cache
def _is_installed() -> bool:
    from importlib.util import find_spec  # only scorers that could be compiled ask

    return find_spec("numba") is not None
