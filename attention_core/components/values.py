"""Values of constructor arguments: compared, shown, and written to configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["brief", "is_plain", "same_value", "show_fields", "to_plain"]


def same_value(left: object, right: object) -> bool:
    """Whether two arguments are the same: arrays bit by bit, NaN equal to itself.

    >>> same_value({"weight": np.ones(2)}, {"weight": np.ones(2)})
    True
    >>> same_value(1, 1.0), same_value(np.zeros(1), -np.zeros(1))
    (False, False)
    """
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_value(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_value, left, right))
    return bool(left == right or (left != left and right != right))  # NaN


def brief(value: object) -> str:
    """The repr of an argument; the dtype and shape of an array of any library with axes.

    >>> brief(np.ones((8, 16))), brief(np.array(0.5)), brief({"table": np.ones(3)})
    ('float64[8, 16]', '0.5', "{'table': float64[3]}")
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return repr(value.item())
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {brief(own)}' for name, own in value.items())}}}"
    if type(value) is tuple:
        return f"({', '.join(map(brief, value))}{',' * (len(value) == 1)})"
    shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
    if dtype is None or not shape:
        return repr(value)
    return f"{dtype}[{', '.join(map(str, shape))}]"


def show_fields(record: Any) -> str:
    """The repr of a named tuple of arrays, which names their dtypes and shapes."""
    fields = (f"{name}={brief(value)}" for name, value in record._asdict().items())
    return f"{type(record).__name__}({', '.join(fields)})"


def is_plain(value: object) -> bool:
    """Whether a value means the same in JSON."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def to_plain(value: Any) -> Any:
    """A value of a JSON document: arrays and tuples are lists, NumPy scalars Python numbers."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
