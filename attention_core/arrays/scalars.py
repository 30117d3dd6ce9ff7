"""Checks of single values: integers, real numbers and flags."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

from attention_core.errors import OptionError, OptionTypeError, shown

__all__ = [
    "LARGEST_SIZE",
    "OFFSET",
    "as_float",
    "check_amount",
    "check_count",
    "check_flag",
    "check_fraction",
    "check_size",
    "is_end",
    "is_integer",
]

LARGEST_SIZE = 1 << 20
"""Largest axis of initial values: a larger one is a typo or comes from a damaged file."""

OFFSET = "query_offset must be an integer, an integer array, one per batch item, or 'end'"
_NOT_NUMBERS = (bool, np.bool_, np.timedelta64)  # numbers according to `numbers`


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is a Python or NumPy integer; booleans and durations are not.

    >>> is_integer(np.int8(3)), is_integer(True), is_integer(3.0)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, _NOT_NUMBERS)


def is_end(offset: object) -> bool:
    """Whether an offset is ``"end"``; raises `OptionTypeError` for another text.

    >>> is_end("end"), is_end(3)
    (True, False)
    """
    if isinstance(offset, str) and offset != "end":
        raise OptionTypeError(f"{OFFSET}, got {shown(offset)}")
    return isinstance(offset, str)


def as_float(value: object) -> float | None:
    """A real number as a float, infinite if out of range; None for anything else.

    >>> as_float(2), as_float(-(10**400)), as_float("2")
    (2.0, -inf, None)
    """
    if isinstance(value, _NOT_NUMBERS) or not isinstance(value, Real):
        return None
    number: Any = value
    try:
        return float(number)
    except OverflowError:  # an integer or a fraction
        return inf if number > 0 else -inf


def check_flag(name: str, value: object) -> bool:
    """Check a flag and return a bool; other values, such as "no", would count as True.

    >>> check_flag("biases", "no")
    Traceback (most recent call last):
    attention_core.errors.OptionTypeError: biases must be True or False, got 'no'
    """
    if not isinstance(value, (bool, np.bool_)):
        raise OptionTypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_count(name: str, value: Any) -> None:
    """Raise unless a number is an integer of at least 1."""
    count = value if is_integer(value) else None
    _check(name, value, "an integer of at least 1", count, lambda count: count >= 1)


def check_size(name: str, value: Any) -> None:
    """Raise unless the length of an axis of initial values is an integer from 1 to 2**20."""
    size = value if is_integer(value) else None
    expected = f"an integer from 1 to {LARGEST_SIZE}"
    _check(name, value, expected, size, lambda size: 1 <= size <= LARGEST_SIZE)


def check_amount(name: str, value: Any) -> None:
    """Raise unless a number is finite and at least 0."""
    expected = "a finite number of at least 0"
    _check(name, value, expected, as_float(value), lambda amount: 0 <= amount < inf)


def check_fraction(name: str, value: Any) -> None:
    """Raise unless a number is between 0 and 1."""
    expected = "a number between 0 and 1"
    _check(name, value, expected, as_float(value), lambda fraction: 0 < fraction < 1)


def _check(
    name: str, value: Any, expected: str, number: float | None, is_possible: Callable[[Any], bool]
) -> None:
    message = f"{name} must be {expected}, got {shown(value)}"
    if number is None:
        raise OptionTypeError(message)
    if not is_possible(number):
        raise OptionError(message)
