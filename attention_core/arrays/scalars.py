"""The one door for single values: what is an integer, what a real number, and what a flag."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import Any, TypeGuard

import numpy as np

from attention_core.errors import OptionTypeError, shown

__all__ = ["LARGEST_SIZE", "as_float", "check_flag", "is_integer"]

LARGEST_SIZE = 1 << 20
"""Of an axis of initial values: a typo or a damaged file may ask for more, no model does."""

_NOT_NUMBERS = (bool, np.bool_, np.timedelta64)  # all of which `numbers` counts, or may count


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, of Python or NumPy; booleans and durations are not.

    >>> is_integer(np.int8(3)), is_integer(True), is_integer(3.0)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, _NOT_NUMBERS)


def as_float(value: object) -> float | None:
    """A real number as a float, infinite where it is beyond them; None for anything else.

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
    """A flag as a Python bool; a number or a text would mean True whatever it says.

    >>> check_flag("biases", "no")
    Traceback (most recent call last):
    attention_core.errors.OptionTypeError: biases must be True or False, got 'no'
    """
    if not isinstance(value, (bool, np.bool_)):
        raise OptionTypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)
