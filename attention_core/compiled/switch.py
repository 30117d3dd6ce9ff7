"""The switch for compiled scorers."""

from __future__ import annotations

import os
from functools import cache

__all__ = ["is_switched_on"]


def is_switched_on() -> bool:
    """Whether numba is installed, and ``ATTENTION_CORE_COMPILED`` is not 0."""
    return os.environ.get("ATTENTION_CORE_COMPILED", "1") != "0" and _is_installed()


@cache
def _is_installed() -> bool:
    from importlib.util import find_spec  # only scorers that could be compiled ask

    return find_spec("numba") is not None
