"""Numbers that options may be."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from attention_core.errors import OptionError, OptionTypeError

__all__ = ["check_amount", "check_count", "check_fraction"]


def check_count(name: str, value: Any) -> None:
    """Raise unless an option is an integer of at least 1."""
    _check(name, value, "an integer of at least 1", Integral, lambda count: count >= 1)


def check_amount(name: str, value: Any) -> None:
    """Raise unless an option is a finite number of at least 0."""
    _check(name, value, "a finite number of at least 0", Real, lambda amount: 0 <= amount < np.inf)


def check_fraction(name: str, value: Any) -> None:
    """Raise unless an option is a number between 0 and 1."""
    _check(name, value, "a number between 0 and 1", Real, lambda fraction: 0 < fraction < 1)


def _check(
    name: str, value: Any, expected: str, kind: type, is_possible: Callable[[Any], bool]
) -> None:
    message = f"{name} must be {expected}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, kind):
        raise OptionTypeError(message)
    if not is_possible(value):
        raise OptionError(message)
