"""Arithmetic without warnings of NumPy: NaN and Inf in the inputs are results, not accidents."""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any

import numpy as np

__all__ = ["IGNORING", "quiet_context"]


def _settings_that_ignore() -> list[tuple[ContextVar[Any], object]]:
    """Context variables that `np.errstate` sets, and what it sets them to."""
    before, within = copy_context(), copy_context()
    within.run(np.errstate(all="ignore").__enter__)
    return [(name, value) for name, value in within.items() if before.get(name) is not value]


IGNORING = _settings_that_ignore()
"""Context variables and their values, under which arithmetic does not warn.

Entering `np.errstate` for each call would take as long as several operations of a small one.
"""


def quiet_context() -> Context:
    """A copy of the current context in which arithmetic does not warn, to run functions in.

    Its settings end with it, even after an interrupt; an interrupt within ``np.errstate`` could
    leave them in place.

    >>> quiet_context().run(np.log, 0.0)
    np.float64(-inf)
    """
    context = copy_context()
    for variable, setting in IGNORING:
        context.run(variable.set, setting)
    return context
